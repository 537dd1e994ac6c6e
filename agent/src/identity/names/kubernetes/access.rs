//! Where the API server is, and what to show it.
//!
//! In a pod: <https://kubernetes.io/docs/tasks/run-application/access-api-from-pod/>. The kubelet replaces the token and
//! the CA in their files; both are read again once a minute, and at once when the server refuses them.

use std::{
    env, fs,
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use http::Uri;
use hyper_util::{
    client::legacy::{Client as HttpClient, connect::HttpConnector},
    rt::TokioExecutor,
};
use kube::{
    Client, Config,
    client::ConfigExt as _,
    config::{KubeConfigOptions, Kubeconfig},
};
use tower::{BoxError, ServiceBuilder};

use super::error::AccessError;

const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const KEEPALIVE: Duration = Duration::from_secs(30);

/// One way to the API server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Access {
    ServiceAccount {
        server: String,
        token: PathBuf,
        ca: PathBuf,
    },
    Kubeconfig(PathBuf),
    /// Without credentials.
    #[cfg(test)]
    Plain(String),
}

impl Access {
    /// The kubeconfig if one is configured, else the service account of the pod that this process runs in.
    pub(super) fn find(kubeconfig: Option<&Path>) -> Result<Self, AccessError> {
        if let Some(path) = kubeconfig {
            return Ok(Self::Kubeconfig(path.to_owned()));
        }
        let host = env::var("KUBERNETES_SERVICE_HOST").map_err(|_| AccessError::Nowhere)?;
        let port = env::var("KUBERNETES_SERVICE_PORT").unwrap_or_else(|_| "443".into());
        let directory = Path::new(SERVICE_ACCOUNT);
        let (token, ca) = (directory.join("token"), directory.join("ca.crt"));
        for path in [&token, &ca] {
            fs::metadata(path).map_err(|why| AccessError::ServiceAccount { path: path.clone(), why })?;
        }
        Ok(Self::ServiceAccount { server: address(&host, &port)?, token, ca })
    }

    /// Reads the credentials. Connects only with the first request.
    pub(super) async fn client(&self) -> Result<Client, AccessError> {
        let config = match self {
            Self::ServiceAccount { server, token, ca } => service_account(server, token, ca)?,
            Self::Kubeconfig(path) => kubeconfig(path).await?,
            #[cfg(test)]
            Self::Plain(server) => Config::new(uri(server)?),
        };
        connect(config).await
    }
}

/// Connects only with the first request.
pub(crate) async fn connect(config: Config) -> Result<Client, AccessError> {
    if let Some(proxy) = &config.proxy_url {
        return Err(AccessError::Proxy(proxy.host().unwrap_or_default().to_owned()));
    }
    // A kubeconfig may name a program that gets the credentials.
    let made = tokio::task::spawn_blocking(move || stack(&config)).await;
    let made = made.map_err(|error| kube::Error::Service(error.into())).flatten();
    made.map_err(|why| AccessError::Credentials { why: why.into() })
}

/// kube's own stack would also log every failed request as an error, and try it again by itself.
fn stack(config: &Config) -> Result<Client, kube::Error> {
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    http.set_connect_timeout(Some(CONNECT_TIMEOUT));
    http.set_keepalive(Some(KEEPALIVE));
    let https = config.rustls_https_connector_with_connector(http)?;
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(HttpClient::builder(TokioExecutor::new()).build(https));
    Ok(Client::new(service, config.default_namespace.clone()))
}

fn service_account(server: &str, token: &Path, ca: &Path) -> Result<Config, AccessError> {
    for path in [token, ca] {
        fs::read(path).map_err(|why| AccessError::ServiceAccount { path: path.to_owned(), why })?;
    }
    let mut config = Config::new(uri(server)?);
    config.auth_info.token_file = Some(token.to_string_lossy().into_owned());
    // The file counts; the empty list keeps the machine's own authorities from being looked for.
    config.root_cert = Some(Vec::new());
    config.root_cert_file = Some(ca.to_owned());
    Ok(config)
}

async fn kubeconfig(path: &Path) -> Result<Config, AccessError> {
    let refuse = |why| AccessError::Kubeconfig { path: path.to_owned(), why: Box::new(why) };
    let file = Kubeconfig::read_from(path).map_err(refuse)?;
    let mut config =
        Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.map_err(refuse)?;
    if config.cluster_url.scheme_str() == Some("http") {
        // Nobody vouches for anything; a small system may have no authorities to be looked for.
        config.root_cert.get_or_insert_default();
    }
    Ok(config)
}

fn address(host: &str, port: &str) -> Result<String, AccessError> {
    let wrong = || AccessError::Address(format!("{host:?}, {port:?}"));
    let port: u16 = port.parse().map_err(|_| wrong())?;
    let host = match host.parse() {
        Ok(IpAddr::V6(address)) => format!("[{address}]"),
        _ => host.to_owned(),
    };
    let server = format!("https://{host}:{port}");
    uri(&server).map(|_| server)
}

fn uri(server: &str) -> Result<Uri, AccessError> {
    server.parse().map_err(|_| AccessError::Address(format!("{server:?}")))
}

/// The name under which the API knows this node: as configured, else as the pod's environment says, else the
/// host's name, which is the same unless the cloud or the kubelet was told otherwise, or the agent has a network
/// namespace of its own.
pub(super) fn node_name(configured: Option<&str>) -> Result<String, AccessError> {
    let from_environment = || env::var("NODE_NAME").ok().filter(|name| !name.is_empty());
    let from_host = || {
        let name = fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
        Some(name.trim().to_lowercase()).filter(|name| !name.is_empty())
    };
    let name = configured.map(str::to_owned).or_else(from_environment).or_else(from_host);
    let name = name.ok_or(AccessError::NoNodeName)?;
    if is_node_name(&name) { Ok(name) } else { Err(AccessError::NodeName(name)) }
}

/// A DNS subdomain (RFC 1123), as every node's name is.
fn is_node_name(name: &str) -> bool {
    let is_allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.');
    (1..=253).contains(&name.len()) && name.bytes().all(is_allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_the_server() {
        assert_eq!(address("10.0.0.1", "443").unwrap(), "https://10.0.0.1:443");
        assert_eq!(address("2001:db8::1", "6443").unwrap(), "https://[2001:db8::1]:6443");
        assert_eq!(address("kubernetes.default.svc", "443").unwrap(), "https://kubernetes.default.svc:443");
        assert!(address("10.0.0.1", "tcp://10.0.0.1:443").is_err());
        assert!(address("a b", "443").is_err());
    }

    #[test]
    fn names_that_no_node_can_have() {
        assert_eq!(node_name(Some("node1.example.com")).unwrap(), "node1.example.com");
        for name in ["Node1", "a b", "a,b", "a=b", "", &"x".repeat(254)] {
            let error = node_name(Some(name)).unwrap_err().to_string();
            assert!(error.contains("identity.node_name"), "{error}");
        }
    }

    #[tokio::test]
    async fn what_is_missing_is_named() {
        let token = PathBuf::from("/nonexistent/token");
        let access = Access::ServiceAccount {
            server: "https://10.0.0.1:443".into(),
            ca: token.clone(),
            token: token.clone(),
        };
        let error = access.client().await.err().unwrap().to_string();
        assert!(error.contains("/nonexistent/token") && error.contains("automount"), "{error}");
        let error = Access::Kubeconfig(token).client().await.err().unwrap().to_string();
        assert!(error.contains("identity.kubeconfig"), "{error}");
    }
}
