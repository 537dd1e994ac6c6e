//! The listeners: who was let in, and how the encrypted ones began.

use super::Page;
use crate::http::{Handshake, Listeners};

pub(super) fn expose(page: &mut Page, listeners: &Listeners) {
    let Listeners { metrics, debug, tls } = listeners;
    let both = [("metrics", metrics), ("debug", debug)];
    page.own_gauge(
        "podwitness_http_connections_open",
        "Connections to the agent's listeners that are open",
        None,
        &["listener"],
        both.map(|(name, of)| ([name], of.open() as f64)),
    );
    page.own_counter(
        "podwitness_http_connections",
        "Connections to the agent's listeners: admitted, or refused because every place was taken by somebody who is served",
        &["listener", "outcome"],
        both.into_iter()
            .flat_map(|(name, of)| [([name, "admitted"], of.admitted()), ([name, "refused"], of.refused())]),
    );
    page.own_counter(
        "podwitness_http_connections_silent",
        "Admitted connections that were closed because no request came",
        &["listener"],
        both.map(|(name, of)| ([name], of.silent())),
    );
    page.own_counter(
        "podwitness_http_connections_displaced",
        "Admitted connections that were idle and were closed for the sake of new ones, because every place was taken",
        &["listener"],
        both.map(|(name, of)| ([name], of.displaced())),
    );
    let Some(tls) = tls else { return };
    // Whoever looks at the metrics learns of a certificate that can't be used, also where nobody connects.
    drop(tls.look());
    let (replaced, refused) = tls.rotations();
    page.own_counter(
        "podwitness_debug_tls_handshakes",
        "TLS handshakes of the debug listener by how they ended",
        &["outcome"],
        Handshake::ALL.map(|outcome| ([outcome.name()], tls.handshakes(outcome))),
    );
    page.own_counter(
        "podwitness_debug_tls_rotations",
        "Times that the debug listener's certificate or key was another one: taken, or refused because they can't be used",
        &["outcome"],
        [(["taken"], replaced), (["refused"], refused)],
    );
    page.own_gauge(
        "podwitness_debug_tls_outdated",
        "1 while the certificate files can't be used, and the certificate from before is shown",
        None,
        &[],
        [([], f64::from(u8::from(tls.is_outdated())))],
    );
}
