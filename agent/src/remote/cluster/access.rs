//! The API server's address and credentials, as kubectl finds them: `--kubeconfig`, the files in `KUBECONFIG`,
//! `~/.kube/config`, and in a pod its service account.

use std::{
    env,
    ffi::OsStr,
    path::{Path, PathBuf},
};

use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig, KubeconfigError},
};

use super::{super::place::InCluster, error::ClusterError};
use crate::{
    causes::with_causes,
    identity::names::kubernetes::{AccessError, connect},
};

pub(super) async fn client(cluster: &InCluster) -> Result<Client, ClusterError> {
    let variable = env::var_os("KUBECONFIG");
    let home = env::home_dir().map(|home| home.join(".kube/config"));
    let files = files(cluster.kubeconfig.as_deref(), variable.as_deref(), home);
    let config = if files.is_empty() {
        // A context is one of a kubeconfig's.
        if cluster.context.is_some() || env::var_os("KUBERNETES_SERVICE_HOST").is_none() {
            return Err(ClusterError::NoKubeconfig);
        }
        Config::incluster().map_err(|error| ClusterError::InCluster(error.to_string()))?
    } else {
        read(&files, cluster.context.as_deref()).await?
    };
    connect(config).await.map_err(|error| match error {
        AccessError::Proxy(proxy) => ClusterError::Proxy(proxy),
        AccessError::Credentials { why } => ClusterError::Credentials(with_causes(&why)),
        error => ClusterError::Credentials(error.to_string()),
    })
}

/// A file that is named by itself has to be there; of those in a list, the ones that are.
fn files(named: Option<&Path>, variable: Option<&OsStr>, home: Option<PathBuf>) -> Vec<PathBuf> {
    if let Some(path) = named {
        return vec![path.to_owned()];
    }
    let listed: Vec<_> = variable.map(env::split_paths).into_iter().flatten().collect();
    let listed = if listed.iter().all(|path| path.as_os_str().is_empty()) {
        home.into_iter().collect()
    } else {
        listed
    };
    listed.into_iter().filter(|path| path.is_file()).collect()
}

async fn read(files: &[PathBuf], context: Option<&str>) -> Result<Config, ClusterError> {
    let all = files.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ");
    let wrong =
        |why: KubeconfigError| ClusterError::Kubeconfig { files: all.clone(), why: with_causes(&why) };
    let merge = |whole: Kubeconfig, path: &PathBuf| whole.merge(Kubeconfig::read_from(path)?);
    let whole = files.iter().try_fold(Kubeconfig::default(), merge).map_err(wrong)?;
    let known: Vec<_> = whole.contexts.iter().map(|context| context.name.clone()).collect();
    match context.or(whole.current_context.as_deref()) {
        None | Some("") => return Err(ClusterError::NoContext { files: all, known: known.join(", ") }),
        Some(name) if !known.iter().any(|known| known == name) => {
            return Err(ClusterError::UnknownContext {
                name: name.into(),
                files: all,
                known: known.join(", "),
            });
        }
        Some(_) => {}
    }
    let options = KubeConfigOptions { context: context.map(str::to_owned), ..KubeConfigOptions::default() };
    let mut config = Config::from_custom_kubeconfig(whole, &options).await.map_err(wrong)?;
    if config.cluster_url.scheme_str() == Some("http") {
        // Nobody vouches for anything; a small system may have no authorities to be looked for.
        config.root_cert.get_or_insert_default();
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn files_are_those_that_kubectl_takes() {
        let directory = env::temp_dir().join(format!("podwitness-kubeconfigs-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let [one, two, missing] = ["one", "two", "missing"].map(|name| directory.join(name));
        for path in [&one, &two] {
            fs::write(path, "").unwrap();
        }
        let list = env::join_paths([&one, &missing, &two]).unwrap();
        let found = |named: Option<&Path>, variable: Option<&OsStr>, home: &Path| {
            let found = files(named, variable, Some(home.to_owned()));
            found.iter().map(|path| path.file_name().unwrap().display().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(found(Some(&missing), Some(&list), &two), ["missing"]);
        assert_eq!(found(None, Some(&list), &two), ["one", "two"]);
        assert_eq!(found(None, Some(OsStr::new("")), &two), ["two"]);
        assert_eq!(found(None, None, &two), ["two"]);
        assert!(found(None, Some(missing.as_os_str()), &two).is_empty());
        assert!(found(None, None, &missing).is_empty());
        fs::remove_dir_all(&directory).unwrap();
    }

    #[tokio::test]
    async fn a_context_that_isnt_there_is_told_with_those_that_are() {
        let path = env::temp_dir().join(format!("podwitness-contexts-{}", std::process::id()));
        let text = "apiVersion: v1\nkind: Config\nclusters: [{name: c, cluster: {server: \"http://127.0.0.1:1\"}}]\n\
                    contexts: [{name: here, context: {cluster: c, namespace: shop}}, {name: there, context: {cluster: c}}]\n";
        fs::write(&path, text).unwrap();
        let files = [path.clone()];
        let error = read(&files, Some("elsewhere")).await.unwrap_err().to_string();
        assert!(error.contains("\"elsewhere\"") && error.contains("here, there"), "{error}");
        let error = read(&files, None).await.unwrap_err().to_string();
        assert!(error.contains("--context") && error.contains("here, there"), "{error}");
        let config = read(&files, Some("here")).await.unwrap();
        assert_eq!(config.default_namespace, "shop");
        fs::write(&path, "clusters: 7").unwrap();
        let error = read(&files, Some("here")).await.unwrap_err().to_string();
        assert!(error.contains(&path.display().to_string()), "{error}");
        fs::remove_file(&path).unwrap();
        let error = read(&files, None).await.unwrap_err().to_string();
        assert!(error.contains("--kubeconfig"), "{error}");
    }
}
