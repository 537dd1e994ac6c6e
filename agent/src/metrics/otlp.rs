//! What was sent to the collector, and what wasn't.

use super::Page;
use crate::otlp::{Decision, Figures, Loss, Signal};

/// Writes nothing where no telemetry is sent.
pub(super) fn expose(page: &mut Page, figures: Option<&Figures>) {
    let Some(figures) = figures else { return };
    // In this order, what becomes of something meanwhile is missing from the outcomes rather than too much in them.
    let sent = Signal::ALL.map(|signal| ([signal.name()], figures.of(signal).sent()));
    let dropped: Vec<_> = Signal::ALL
        .into_iter()
        .flat_map(|signal| {
            Loss::ALL.map(|why| ([signal.name(), why.name()], figures.of(signal).dropped(why)))
        })
        .collect();
    page.own_counter(
        "podwitness_otlp_produced",
        "Logs, spans and points of metrics made to be sent: produced = sent + dropped + those that wait",
        &["signal"],
        Signal::ALL.map(|signal| ([signal.name()], figures.of(signal).produced())),
    );
    page.own_counter("podwitness_otlp_sent", "Those that the collector has taken", &["signal"], sent);
    page.own_counter(
        "podwitness_otlp_dropped",
        "Those that were not sent or not taken, by reason; what is unanswered may have arrived",
        &["signal", "reason"],
        dropped,
    );
    page.own_counter(
        "podwitness_otlp_retries",
        "Requests that were sent once more",
        &["signal"],
        Signal::ALL.map(|signal| ([signal.name()], figures.of(signal).retries())),
    );
    page.own_counter(
        "podwitness_otlp_spans_sampled",
        "Spans by what the sampling decided: sent for a failure, slowness or a death, or drawn; or left out",
        &["decision"],
        Decision::ALL
            .map(|decision| ([decision.name()], figures.spans.decided(decision)))
            .into_iter()
            .chain([(["left_out"], figures.spans.left_out())]),
    );
    page.own_counter(
        "podwitness_otlp_forgotten",
        "Beginnings of processes, connections and containers forgotten because otlp.tracked or limits.containers was reached",
        &[],
        [([], figures.spans.forgotten())],
    );
}
