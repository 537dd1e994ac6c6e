//! Prometheus' older text format out of OpenMetrics', which prometheus-client writes.

/// Rewrites an OpenMetrics page as Prometheus text 0.0.4: counters are declared under the name of their samples,
/// there are no units, and no end mark.
pub(super) fn prometheus(open_metrics: &str) -> String {
    let mut page = String::with_capacity(open_metrics.len());
    let mut help: Option<(&str, &str)> = None;
    for line in open_metrics.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            // Held back until the type is known.
            help = rest.split_once(' ');
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap_or((rest, "untyped"));
            let suffix = if kind == "counter" { "_total" } else { "" };
            if let Some((_, text)) = help.take() {
                push(&mut page, &["# HELP ", name, suffix, " ", text]);
            }
            push(&mut page, &["# TYPE ", name, suffix, " ", kind]);
        } else if !line.starts_with("# UNIT ") && line != "# EOF" {
            push(&mut page, &[line]);
        }
    }
    page
}

fn push(page: &mut String, parts: &[&str]) {
    for part in parts {
        page.push_str(part);
    }
    page.push('\n');
}

#[cfg(test)]
mod tests {
    use super::prometheus;

    #[test]
    fn counters_are_declared_by_the_name_of_their_samples() {
        let open = "# HELP a Help me.\n# TYPE a counter\na_total{x=\"# EOF\"} 1\n# HELP b_seconds Time.\n\
                    # TYPE b_seconds histogram\n# UNIT b_seconds seconds\nb_seconds_sum 2.0\n# EOF\n";
        let text = "# HELP a_total Help me.\n# TYPE a_total counter\na_total{x=\"# EOF\"} 1\n\
                    # HELP b_seconds Time.\n# TYPE b_seconds histogram\nb_seconds_sum 2.0\n";
        assert_eq!(prometheus(open), text);
    }
}
