//! What engines say, word by word.

use super::{
    super::api::{Change, Event, Listed, Version, only},
    *,
};
use crate::identity::names::Container;

fn fact(listed: Value, user: Option<u32>) -> Option<Container> {
    serde_json::from_value::<Listed>(listed).unwrap().fact(user)
}

#[test]
fn names_services_and_users() {
    let compose = json!({"Id": ID, "Names": ["/shop-web-1/db", "/shop-web-1"],
        "Labels": {"com.docker.compose.project": "shop", "com.docker.compose.service": "web"}});
    let found = fact(compose.clone(), Some(1000)).unwrap();
    assert_eq!(
        (found.id, found.name, found.service),
        (format!("1000/{ID}"), "shop-web-1".into(), Some("shop/web".into()))
    );
    assert_eq!(fact(compose, None).unwrap().id, ID);
    for odd in [
        json!({"Id": ID, "Names": null}),
        json!({"Id": ID, "Names": ["/"]}),
        json!({"Id": "a/../b", "Names": ["/web"]}),
        json!({"Id": ID, "Names": ["/k8s_web"], "Labels": {"io.kubernetes.pod.uid": "u"}}),
    ] {
        assert_eq!(fact(odd.clone(), None), None, "{odd}");
    }
    let long = fact(json!({"Id": ID, "Names": ["x\n".repeat(500)]}), None).unwrap();
    assert!(long.name.len() <= 128 && !long.name.contains('\n'), "{long:?}");
}

#[test]
fn nobody_names_the_containers_of_others() {
    let names = Names::new(NameBounds { containers: 10, grace: Duration::ZERO });
    let called = |path: &str| names.labels(&Placement::parse(path)).labels.workload;
    let claim = |name: &str, user| {
        let fact = fact(json!({"Id": ID, "Names": [name]}), user).unwrap();
        names.put_container(Source::Podman, fact, std::time::Instant::now());
    };
    let of_root = format!("/machine.slice/libpod-{ID}.scope");
    let of_user =
        format!("/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope/container");
    claim("forged", Some(1000));
    assert_eq!((called(&of_root), called(&of_user)), ("aaaaaaaaaaaa".into(), "forged".into()));
    claim("real", None);
    assert_eq!((called(&of_root), called(&of_user)), ("real".into(), "forged".into()));
}

/// As podman 4.3.1 was seen to write them, and as Docker's reference has them.
#[test]
fn events_of_both_engines() {
    let change = |action: &str, id: &str| {
        let event = json!({"status": action, "Type": "container", "Action": action,
            "Actor": {"ID": id, "Attributes": {"containerExitCode": "0", "name": "shop-web-1", "podId": "",
                "com.docker.compose.project": "shop", "com.docker.compose.service": "web"}}});
        serde_json::from_value::<Event>(event).unwrap().change()
    };
    for action in ["create", "start"] {
        let Change::Here(listed) = change(action, ID) else { panic!("{action}") };
        let fact = listed.fact(None).unwrap();
        assert_eq!((fact.name.as_str(), fact.service.as_deref()), ("shop-web-1", Some("shop/web")));
    }
    assert_eq!(change("rename", ID), Change::Renamed(ID.into()));
    for action in ["die", "destroy", "died", "remove"] {
        assert_eq!(change(action, ID), Change::Gone(ID.into()));
    }
    for action in ["cleanup", "exec_create: sh", "health_status: healthy", ""] {
        assert_eq!(change(action, ID), Change::Other);
    }
    assert_eq!(change("start", "a&b"), Change::Other);
}

#[test]
fn where_to_ask() {
    let version = |value: Value| serde_json::from_value::<Version>(value).unwrap();
    let podman = |api: &str| {
        version(
            json!({"Version": "x", "Components": [{"Name": "Podman Engine", "Details": {"APIVersion": api}}]}),
        )
    };
    assert_eq!(podman("5.4.2").list(), "/v5.4.2/libpod/containers/json");
    // Nothing that a path would take for something else.
    assert_eq!(podman("5/../..").list(), "/containers/json");
    assert_eq!(podman("").source(), Source::Podman);
    let docker = version(json!({"Version": "27.0.1", "Components": null}));
    assert_eq!((docker.source(), docker.list()), (Source::Docker, "/containers/json".into()));
    assert_eq!(only(&["host".into()]), None);
    let expected = format!("?all=true&filters=%7B%22id%22%3A%5B%22{ID}%22%2C%22{ID}%22%5D%7D");
    assert_eq!(only(&[ID.into(), "x".into(), ID.into()]).unwrap(), expected);
}
