//! The few fields that are read out of EndpointSlices, Services and Nodes.
//!
//! <https://kubernetes.io/docs/reference/kubernetes-api/service-resources/endpoint-slice-v1/> and the pages beside it.
//! What one kind lacks is absent; so one form is enough for all.

use std::net::IpAddr;

use serde::{Deserialize, Deserializer};

use crate::identity::peers::{Claim, Network, Origin, Peer, Rank};

#[derive(Debug, Deserialize)]
pub(super) struct Object {
    pub metadata: Meta,
    /// Addresses of an EndpointSlice. The endpoints are gone before the next slice of a list is read.
    #[serde(default, deserialize_with = "of_endpoints")]
    endpoints: Box<[Address]>,
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Meta {
    pub uid: String,
    #[serde(default)]
    pub resource_version: String,
    name: String,
    /// A Node has none.
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    labels: Option<Labels>,
}

#[derive(Debug, Deserialize)]
struct Labels {
    /// On an EndpointSlice: the Service that it belongs to.
    #[serde(rename = "kubernetes.io/service-name")]
    service_name: Option<String>,
}

fn of_endpoints<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Box<[Address]>, D::Error> {
    #[derive(Deserialize)]
    struct Endpoint {
        #[serde(default)]
        addresses: Option<Vec<Address>>,
    }
    let endpoints = Option::<Vec<Endpoint>>::deserialize(deserializer)?.unwrap_or_default();
    Ok(endpoints.into_iter().flat_map(|endpoint| endpoint.addresses.unwrap_or_default()).collect())
}

#[derive(Debug, Default, Deserialize)]
struct Spec {
    /// Of a Service.
    #[serde(default, rename = "clusterIPs")]
    cluster_ips: Option<Vec<Address>>,
    #[serde(default, rename = "externalIPs")]
    external_ips: Option<Vec<Address>>,
    /// Of a Node.
    #[serde(default, rename = "podCIDRs")]
    pod_cidrs: Option<Vec<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    /// Of a Node.
    #[serde(default)]
    addresses: Option<Vec<NodeAddress>>,
    /// Of a Service.
    #[serde(default)]
    load_balancer: Option<LoadBalancer>,
}

#[derive(Debug, Deserialize)]
struct NodeAddress {
    address: Address,
}

#[derive(Debug, Deserialize)]
struct LoadBalancer {
    #[serde(default)]
    ingress: Option<Vec<Ingress>>,
}

#[derive(Debug, Deserialize)]
struct Ingress {
    /// Absent where the load balancer goes by a name.
    #[serde(default)]
    ip: Option<Address>,
}

/// None for the name of a host, and for the `None` of a headless Service.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(from = "String")]
struct Address(Option<IpAddr>);

impl From<String> for Address {
    fn from(text: String) -> Self {
        Self(text.parse().ok())
    }
}

/// Longest name that the API accepts for anything (RFC 1123 subdomain).
const LENGTH_MAX: usize = 253;

impl Object {
    /// Which addresses are whose; none if the object names nobody.
    pub(super) fn claim(&self, origin: Origin) -> Option<Claim> {
        match origin {
            Origin::EndpointSlices => {
                let service = self.metadata.labels.as_ref()?.service_name.as_deref()?;
                self.of_service(Rank::Endpoint, service, self.endpoints.iter())
            }
            Origin::Services => {
                let Spec { cluster_ips, external_ips, .. } = &self.spec;
                let balancer = self.status.load_balancer.as_ref();
                let ingress = balancer.and_then(|balancer| balancer.ingress.as_ref());
                let addresses = [cluster_ips, external_ips].into_iter().flatten().flatten();
                let addresses = addresses.chain(ingress.into_iter().flatten().filter_map(|i| i.ip.as_ref()));
                self.of_service(Rank::Service, &self.metadata.name, addresses)
            }
            Origin::Nodes => {
                let addresses = self.status.addresses.iter().flatten();
                let addresses = addresses.filter_map(|node| node.address.0).collect();
                let networks = self.spec.pod_cidrs.iter().flatten();
                let networks = networks.filter_map(|text| text.parse::<Network>().ok()).collect();
                Some(Claim::node(addresses, networks))
            }
            Origin::Own => None,
        }
    }

    fn of_service<'a>(
        &self,
        rank: Rank,
        name: &str,
        addresses: impl Iterator<Item = &'a Address>,
    ) -> Option<Claim> {
        let namespace = &self.metadata.namespace;
        let is_name = |text: &str| (1..=LENGTH_MAX).contains(&text.len());
        let peer = Peer { namespace: namespace.as_str().into(), workload: name.into() };
        let addresses = addresses.filter_map(|address| address.0).collect();
        (is_name(namespace) && is_name(name)).then_some(Claim { rank, peer, addresses, networks: Vec::new() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(origin: Origin, json: &str) -> Option<Claim> {
        serde_json::from_str::<Object>(json).unwrap().claim(origin)
    }

    fn addresses(claim: &Claim) -> Vec<String> {
        claim.addresses.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn all_addresses_of_a_service() {
        let service = claim(
            Origin::Services,
            r#"{"metadata":{"uid":"u","name":"web","namespace":"shop","labels":null},
            "spec":{"clusterIP":"10.96.0.1","clusterIPs":["10.96.0.1","fd00::1"],"externalIPs":["192.0.2.1"]},
            "status":{"loadBalancer":{"ingress":[{"ip":"198.51.100.1"},{"hostname":"a.example.com"}]}}}"#,
        );
        let service = service.unwrap();
        assert_eq!(service.peer, Peer { namespace: "shop".into(), workload: "web".into() });
        assert_eq!(addresses(&service), ["10.96.0.1", "fd00::1", "192.0.2.1", "198.51.100.1"]);
        let headless =
            r#"{"metadata":{"uid":"u","name":"db","namespace":"shop"},"spec":{"clusterIPs":["None"]}}"#;
        assert_eq!(addresses(&claim(Origin::Services, headless).unwrap()), [""; 0]);
    }

    #[test]
    fn a_slice_is_named_by_its_service_or_by_nobody() {
        let slice = |labels: &str| {
            let endpoints = r#"[{"addresses":["10.0.0.1","10.0.0.2"]},{"addresses":null},{"addresses":["a.example.com"]}]"#;
            let meta = format!(r#"{{"uid":"u","name":"web-x","namespace":"shop"{labels}}}"#);
            claim(Origin::EndpointSlices, &format!(r#"{{"metadata":{meta},"endpoints":{endpoints}}}"#))
        };
        let named = slice(r#","labels":{"kubernetes.io/service-name":"web","other":"x"}"#).unwrap();
        assert_eq!(
            (&*named.peer.workload, addresses(&named)),
            ("web", vec!["10.0.0.1".into(), "10.0.0.2".into()])
        );
        assert_eq!(slice(""), None);
        assert_eq!(slice(r#","labels":{"kubernetes.io/service-name":""}"#), None);
        let long = "x".repeat(254);
        assert_eq!(slice(&format!(r#","labels":{{"kubernetes.io/service-name":"{long}"}}"#)), None);
    }

    #[test]
    fn a_node_has_addresses_and_networks() {
        let node = claim(
            Origin::Nodes,
            r#"{"metadata":{"uid":"u","name":"n"},"spec":{"podCIDRs":["10.244.0.0/24","nonsense"]},
            "status":{"addresses":[{"type":"InternalIP","address":"192.0.2.1"},{"type":"Hostname","address":"n"}]}}"#,
        );
        let node = node.unwrap();
        assert_eq!(addresses(&node), ["192.0.2.1"]);
        assert_eq!(node.networks, ["10.244.0.0/24".parse().unwrap()]);
    }
}
