//! What a running agent says of itself.

use std::io::{self, Write};

use anyhow::{Result, bail};
use serde_json::Value;

use crate::{
    config::Config,
    harmless::Harmless,
    remote::{Place, Remote},
};

/// Asks the agent instead of the machine: it may be another one.
pub fn ask(place: &Place, config: &Config, json: bool) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let status = runtime.block_on(async { Remote::new(place, config).await?.json("/v1/status").await })?;
    let mut out = io::stdout().lock();
    if json {
        writeln!(out, "{status:#}")?;
    } else {
        write(&mut out, &status)?;
    }
    let fails = |part: &str, state: &str| {
        status[part].as_object().is_some_and(|parts| parts.values().any(|part| part["state"] == state))
    };
    if fails("sensors", "unsupported") || fails("sources", "failed") {
        bail!("not everything works there: see the lines above");
    }
    Ok(())
}

fn write(out: &mut impl Write, status: &Value) -> io::Result<()> {
    let said = |value: &Value| match value {
        Value::String(text) => Harmless(text).to_string(),
        Value::Null => "?".to_owned(),
        value => value.to_string(),
    };
    writeln!(
        out,
        "podwitness {} on {}, since {}\n",
        said(&status["version"]),
        said(&status["node"]),
        said(&status["started"])
    )?;
    let lost = |sensor: &Value| {
        let parts = ["lost", "throttled"].map(|what| (what, sensor[what].as_u64().unwrap_or(0)));
        let parts: Vec<_> = parts.iter().filter(|(_, count)| *count > 0).collect();
        parts.iter().map(|(what, count)| format!("{count} {what}")).collect::<Vec<_>>().join(", ")
    };
    writeln!(out, "{:<10} {:<12} REASON", "SENSOR", "STATE")?;
    for (name, sensor) in status["sensors"].as_object().into_iter().flatten() {
        let reason = [said(&sensor["reason"]), lost(sensor)];
        let reason: Vec<_> = reason.into_iter().filter(|part| !part.is_empty()).collect();
        let reason = if reason.is_empty() { "-".to_owned() } else { reason.join("; ") };
        writeln!(out, "{:<10} {:<12} {reason}", Harmless(name).to_string(), said(&sensor["state"]))?;
    }
    writeln!(out, "\n{:<10} {:<12} FAILURES", "NAMES BY", "STATE")?;
    for (name, source) in status["sources"].as_object().into_iter().flatten() {
        let (state, failures) = (said(&source["state"]), said(&source["failures"]));
        writeln!(out, "{:<10} {state:<12} {failures}", Harmless(name).to_string())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_agents_state_in_lines() {
        let status = json!({
            "version": "0.1.0", "node": "node1", "started": "2026-01-02T03:04:05Z",
            "sensors": {
                "oom": {"state": "active", "reason": "", "lost": 0, "throttled": 0},
                "tcp": {"state": "degraded", "reason": "no \u{1b}[2J", "lost": 3, "throttled": 0},
            },
            "sources": {"kubernetes": {"state": "failed", "failures": 7}},
        });
        let mut out = Vec::new();
        write(&mut out, &status).unwrap();
        let expected = "podwitness 0.1.0 on node1, since 2026-01-02T03:04:05Z\n\n\
                        SENSOR     STATE        REASON\n\
                        oom        active       -\n\
                        tcp        degraded     no \\u{1b}[2J; 3 lost\n\n\
                        NAMES BY   STATE        FAILURES\n\
                        kubernetes failed       7\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
