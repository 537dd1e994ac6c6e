//! Which agent: the flags of all commands that ask one.

use std::path::PathBuf;

use clap::{Arg, ArgGroup, ArgMatches, Command, ValueHint, value_parser};

use crate::remote::{InCluster, PORT, Place, SELECTOR, Which};

const HEADING: &str = "Which agent";
const ADDR: &str = "addr";
const POD: &str = "pod";
const NODE: &str = "node";
const NAMESPACE: &str = "namespace";
const TOKEN_FILE: &str = "token-file";
const CA_FILE: &str = "ca-file";
const SERVER_NAME: &str = "tls-server-name";
const KUBECONFIG: &str = "kubeconfig";
const CONTEXT: &str = "context";
const AGENT_NAMESPACE: &str = "agent-namespace";
const AGENT_SELECTOR: &str = "agent-selector";
const AGENT_PORT: &str = "agent-port";

/// What names a pod: a namespace alone would name nothing.
const NAMED: &str = "named";

/// Gives a command the flags; `pods` are arguments of its own that name a pod, too.
pub(super) fn add(command: Command, pods: &[&'static str]) -> Command {
    let named = [&[POD], pods].concat();
    command.args(arguments()).group(ArgGroup::new(NAMED).args(named).multiple(true))
}

fn arguments() -> Vec<Arg> {
    let option = |name: &'static str, value: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(value).help(help).help_heading(HEADING)
    };
    let file = |argument: Arg| argument.value_parser(value_parser!(PathBuf)).value_hint(ValueHint::FilePath);
    vec![
        option(
            ADDR,
            "HOST:PORT",
            "The agent's debug listener, with https:// if it speaks TLS; without it the local one's, as its configuration \
             says",
        )
        .conflicts_with_all([POD, NODE]),
        option(POD, "[NAMESPACE/]NAME", "The agent that watches this pod, through the API server; and only this pod")
            .conflicts_with(NODE),
        option(NODE, "NAME", "The agent on this node, through the API server"),
        option(NAMESPACE, "NAME", "The pod's namespace [default: that of the kubeconfig's context]")
            .short('n')
            .requires(NAMED),
        file(option(TOKEN_FILE, "PATH", "File with the token that the agent wants [default: debug.token_file]")),
        file(option(CA_FILE, "PATH", "Certificates of the authorities that may vouch for the agent's [default: the system's]")),
        option(SERVER_NAME, "NAME", "The name in the agent's certificate, if it isn't the one in --addr"),
        file(option(KUBECONFIG, "PATH", "The way to the API server [default: as kubectl finds it]"))
            .conflicts_with(ADDR),
        option(CONTEXT, "NAME", "The context in the kubeconfig [default: the current one]").conflicts_with(ADDR),
        option(AGENT_NAMESPACE, "NAME", "Where the agents' pods are [default: anywhere]").conflicts_with(ADDR),
        option(AGENT_SELECTOR, "LABELS", "What the agents' pods are labelled")
            .default_value(SELECTOR)
            .conflicts_with(ADDR),
        option(AGENT_PORT, "PORT", "The port of debug.listen in the agents' pods [default: 9482]")
            .value_parser(value_parser!(u16).range(1..))
            .conflicts_with(ADDR),
    ]
}

/// What they say.
pub(super) fn read(matches: &ArgMatches) -> Place {
    let text = |name: &str| matches.get_one::<String>(name).cloned();
    let path = |name: &str| matches.get_one::<PathBuf>(name).cloned();
    let which = match (text(ADDR), text(POD), text(NODE)) {
        (Some(address), ..) => Which::Address(address),
        (_, Some(name), _) => pod(&name, namespace(matches)),
        (.., Some(node)) => Which::Node(node),
        _ => Which::Local,
    };
    Place {
        which,
        token_file: path(TOKEN_FILE),
        ca_file: path(CA_FILE),
        server_name: text(SERVER_NAME),
        cluster: InCluster {
            kubeconfig: path(KUBECONFIG),
            context: text(CONTEXT),
            agent_namespace: text(AGENT_NAMESPACE),
            agent_selector: text(AGENT_SELECTOR).unwrap_or_else(|| SELECTOR.into()),
            agent_port: matches.get_one(AGENT_PORT).copied().unwrap_or(PORT),
        },
    }
}

/// The namespace by itself.
pub(super) fn namespace(matches: &ArgMatches) -> Option<String> {
    matches.get_one::<String>(NAMESPACE).cloned()
}

/// `[NAMESPACE/]NAME`; the namespace in it counts more.
pub(super) fn pod(name: &str, namespace: Option<String>) -> Which {
    match name.split_once('/') {
        Some((namespace, name)) => {
            Which::Pod { namespace: Some(namespace.to_owned()), name: name.to_owned() }
        }
        None => Which::Pod { namespace, name: name.to_owned() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(line: &str) -> Place {
        let command = add(Command::new("x"), &[]);
        read(&command.try_get_matches_from(std::iter::once("x").chain(line.split_whitespace())).unwrap())
    }

    fn web(namespace: Option<&str>) -> Which {
        Which::Pod { namespace: namespace.map(str::to_owned), name: "web-0".into() }
    }

    #[test]
    fn one_agent_is_meant() {
        assert_eq!(place(""), Place::default());
        assert_eq!(place("--addr node1:9482").which, Which::Address("node1:9482".into()));
        assert_eq!(place("--node node1").which, Which::Node("node1".into()));
        assert_eq!(place("--pod web-0").which, web(None));
        assert_eq!(place("--pod web-0 -n shop").which, web(Some("shop")));
        assert_eq!(place("--pod shop/web-0 -n other").which, web(Some("shop")));
        let line = "--node n --context c --kubeconfig /k --agent-namespace a --agent-selector b=c --agent-port 7 --ca-file /ca \
                    --tls-server-name agent --token-file /t";
        let expected = Place {
            which: Which::Node("n".into()),
            token_file: Some("/t".into()),
            ca_file: Some("/ca".into()),
            server_name: Some("agent".into()),
            cluster: InCluster {
                kubeconfig: Some("/k".into()),
                context: Some("c".into()),
                agent_namespace: Some("a".into()),
                agent_selector: "b=c".into(),
                agent_port: 7,
            },
        };
        assert_eq!(place(line), expected);
    }

    #[test]
    fn two_agents_are_one_too_many() {
        for line in [
            "--addr a:1 --pod b",
            "--pod a --node b",
            "--addr a:1 --node b",
            "--addr a:1 --context c",
            "-n shop",
        ] {
            let command = add(Command::new("x"), &[]);
            let words = std::iter::once("x").chain(line.split_whitespace());
            assert!(command.try_get_matches_from(words).is_err(), "{line}");
        }
    }
}
