//! Asking a running agent for its metrics, as Prometheus does.

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use axum::http::{Request, header};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::timeout};

use crate::mistake::Mistake;

/// An agent on the same machine answers in milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of a page; one of a million series has half of that.
const PAGE: usize = 256 << 20;

/// The series of a page.
#[derive(Debug, Default)]
pub struct Series {
    /// By the name of the samples: how many there are, and their sum.
    samples: BTreeMap<String, (usize, f64)>,
    /// Bounds by key, and folded series by what was folded.
    limits: BTreeMap<String, f64>,
    folded: BTreeMap<String, f64>,
}

/// Whether there is room for all of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Budget {
    pub series: f64,
    /// 0 is no limit.
    pub limit: f64,
    /// What was folded, and how many series there would be otherwise.
    pub folded: Vec<(String, f64)>,
}

/// Where the agent of this machine is reached that listens there.
pub fn local(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

/// Scrapes the agent at `address`, which is `host:port`.
pub async fn series(address: &str) -> Result<Series> {
    let page = timeout(PATIENCE, page(address)).await;
    let page = page.with_context(|| format!("{address} took longer than {PATIENCE:?} to answer"))??;
    let series = Series::read(&page);
    if !series.samples.keys().any(|name| name.starts_with("podwitness_")) {
        bail!("{address} answers, but not as podwitness does: --addr names the agent's metrics.listen");
    }
    Ok(series)
}

async fn page(address: &str) -> Result<String> {
    let plain = address.trim_start_matches("http://").trim_end_matches('/');
    if plain.rsplit_once(':').is_none_or(|(_, port)| port.parse::<u16>().is_err()) {
        bail!(Mistake(format!("{address} is no address with a port, such as 127.0.0.1:9481")));
    }
    let stream = TcpStream::connect(plain).await.with_context(|| {
        format!(
            "no agent answers at {address}: start one (`podwitness`), or name another one's metrics.listen with \
             --addr. On a cluster, `kubectl port-forward POD 9481` makes its port yours"
        )
    })?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = Request::builder()
        .uri("/metrics")
        .header(header::HOST, plain)
        .header(header::ACCEPT, "text/plain;version=0.0.4")
        .body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await.with_context(|| format!("{address} gave no answer"))?;
    let status = response.status();
    if !status.is_success() {
        bail!("{address} answered {status} to /metrics: is it the port of metrics.listen (9481)?");
    }
    let body = Limited::new(response.into_body(), PAGE).collect().await;
    let body = body.map_err(|error| anyhow::anyhow!("the page of {address} broke off: {error}"))?;
    Ok(String::from_utf8_lossy(&body.to_bytes()).into_owned())
}

impl Series {
    /// Of a page in Prometheus' text format.
    fn read(page: &str) -> Self {
        let mut series = Self::default();
        for line in page.lines().filter(|line| !line.starts_with('#')) {
            let Some((labels, value)) = line.rsplit_once(' ') else { continue };
            let (name, labels) = labels.split_once('{').unwrap_or((labels, ""));
            let value = value.parse().unwrap_or(0.0);
            let (count, sum) = series.samples.entry(name.to_owned()).or_default();
            *count += 1;
            *sum += value;
            // Neither has a quote in its values.
            let quoted = labels.split('"').nth(1).unwrap_or_default().to_owned();
            match name {
                "podwitness_limit" => drop(series.limits.insert(quoted, value)),
                "podwitness_series_folded" if value > 0.0 => drop(series.folded.insert(quoted, value)),
                _ => {}
            }
        }
        series
    }

    /// Series of a metric, and their sum; of a histogram what it has observed.
    pub fn of(&self, metric: &str) -> (usize, f64) {
        let samples =
            |ending: &str| self.samples.get(&format!("{metric}{ending}")).copied().unwrap_or_default();
        let endings = ["", "_bucket", "_sum", "_count"];
        let count = endings.iter().map(|ending| samples(ending).0).sum();
        (count, samples("").1 + samples("_count").1)
    }

    pub fn budget(&self) -> Budget {
        Budget {
            series: self.of("podwitness_container_series").1,
            limit: self.limits.get("metrics.series_limit").copied().unwrap_or_default(),
            folded: self.folded.iter().map(|(what, series)| (what.clone(), *series)).collect(),
        }
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { series, limit, folded } = self;
        write!(f, "{series} series of containers")?;
        if series > limit && *limit > 0.0 {
            write!(
                f,
                ", more than {limit} (metrics.series_limit), which are too few for what stands for all others"
            )?;
        } else if *limit > 0.0 {
            write!(f, " of at most {limit} (metrics.series_limit)")?;
        }
        if folded.is_empty() {
            return f.write_str("; nothing is folded");
        }
        let folded: Vec<_> = folded.iter().map(|(what, series)| format!("{series} by {what}")).collect();
        write!(
            f,
            "; folded into `other`: {}, until there is room again. Raise the limit, or leave out what you don't need \
             (metrics.detail)",
            folded.join(", ")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = r#"# HELP podwitness_calls_total Calls.
podwitness_calls_total{workload="a b",syscall="read"} 3
podwitness_calls_total{workload="b\"} 7",syscall="read"} 4
podwitness_time_seconds_sum{class="x"} 0.5
podwitness_time_seconds_count{class="x"} 2
podwitness_time_seconds_bucket{le="0.1",class="x"} 1
podwitness_time_seconds_bucket{le="+Inf",class="x"} 2
podwitness_limit{key="metrics.series_limit"} 2000.0
podwitness_container_series 1990.0
podwitness_series_folded{detail="errno"} 12.0
podwitness_series_folded{detail="peer"} 0.0
"#;

    #[test]
    fn series_are_counted_and_summed_up() {
        let series = Series::read(PAGE);
        assert_eq!(series.of("podwitness_calls_total"), (2, 7.0));
        assert_eq!(series.of("podwitness_time_seconds"), (4, 2.0));
        assert_eq!(series.of("podwitness_nothing"), (0, 0.0));
        assert_eq!(
            series.budget().to_string(),
            "1990 series of containers of at most 2000 (metrics.series_limit); folded into `other`: 12 by errno, \
             until there is room again. Raise the limit, or leave out what you don't need (metrics.detail)"
        );
        let small = Budget { series: 90.0, limit: 50.0, folded: Vec::new() };
        assert!(
            small.to_string().starts_with("90 series of containers, more than 50 (metrics.series_limit), ")
        );
        let free = Budget { series: 5.0, limit: 0.0, folded: Vec::new() };
        assert_eq!(free.to_string(), "5 series of containers; nothing is folded");
    }

    #[test]
    fn an_agent_that_listens_everywhere_is_reached_on_loopback() {
        for (listen, reached) in
            [("0.0.0.0:1", "127.0.0.1:1"), ("[::]:1", "[::1]:1"), ("10.0.0.1:1", "10.0.0.1:1")]
        {
            assert_eq!(local(listen.parse().unwrap()), reached.parse().unwrap());
        }
    }
}
