//! Every mistake is found, named and explained.

use super::*;

#[test]
fn what_an_option_refuses_is_refused_from_everywhere() {
    for (key, text, why) in [
        ("metrics.listen", "localhost:1", "has a name instead of an IP address"),
        ("metrics.listen", "0.0.0.0", "has no port"),
        ("metrics.grace", "24h1ms", "is above 24h"),
        ("metrics.grace", "300", "has no unit"),
        ("metrics.grace", "-5m", "is not a duration"),
        ("debug.token_file", "token", "is not an absolute path"),
        ("debug.tls_certificate_file", "tls.crt", "is not an absolute path"),
        ("debug.buffer", "15", "is below 16"),
        ("debug.buffer", "1048577", "is above 1048576"),
        ("debug.clients", "0", "is below 1"),
        ("debug.clients", "1e3", "is not a whole number"),
        ("sensors.tcp", "yes", "is neither true nor false"),
        ("sensors.tcp", "True", "is neither true nor false"),
        ("events.rate", "10000001", "is above 10000000"),
        ("events.rate", "99999999999999999999999", "is above 10000000"),
        ("events.burst", "0", "is below 1"),
        ("ring.size", "5MiB", "is not a power of two"),
        ("ring.size", "2048", "is below 4KiB"),
        ("ring.size", "2GiB", "is above 1GiB"),
        ("ring.size", "4MB", "has none of the units"),
        ("ring.poll_min", "0s", "is below 1ms"),
        ("ring.poll_max", "2s", "is above 1s"),
        ("limits.slots", "1", "is below 2"),
        ("limits.map_memory", "1MiB", "is below 16MiB"),
        ("limits.sockets", "16777217", "is above 16777216"),
        ("identity.hold", "6m", "is above 5m"),
        ("identity.scan_interval", "0s", "is below 1s"),
        ("log.level", "INFO", "is none of the known names"),
    ] {
        let spec = option(key);
        for (origin, loaded) in [
            (".yaml:2", load_file(yaml(key, text))),
            (spec.env().as_str(), load_env(&spec.env(), text)),
            (format!("--{}", spec.flag()).as_str(), load_flag(key, text)),
        ] {
            let message = errors(loaded);
            assert!(message.starts_with("the configuration has 1 error:\n"), "{message}");
            for part in
                [&format!("  {key}: {text:?} {why}"), origin, &format!("allowed: {}\n", spec.allowed())]
            {
                assert!(message.contains(part), "{part} is missing in {message}");
            }
        }
    }
}

#[test]
fn a_file_of_another_shape_is_explained() {
    for (content, parts) in [
        ("metrics:\n  lisetn: x", &["metrics.lisetn: unknown key, did you mean metrics.listen?", ":2"][..]),
        ("grace: 5m", &["did you mean metrics.grace?"]),
        ("sensor:\n  tcp: true", &["sensor: unknown key, did you mean sensors?"]),
        ("quarks: {a: [b, {c: d}]}", &["quarks: unknown key\n"]),
        ("log:\n  level: info\n  level: info", &["log.level: given twice, before in line 2", ":3"]),
        ("log: {}\n\nlog: {}", &["log: given twice, before in line 1", ":3"]),
        ("log: {level: info}\nlog.level: warn", &["log.level: given twice"]),
        ("metrics: 5", &["a single value stands where a section is expected; it holds listen, grace"]),
        ("metrics: [5]", &["a list stands where a section"]),
        ("metrics:\n  listen: [::]\n", &["a list stands where one value", "brackets needs quotes"]),
        ("log: {level: {a: b}}", &["log.level: a mapping stands where one value"]),
        ("log:\n  level:", &["log.level: nothing stands where one value", "allowed: one of error"]),
        ("log:\n  level: ~", &["nothing stands"]),
        ("log:\n  level: !!str info", &["a value with a tag stands"]),
        ("log: {level: &a info}\nring: {size: *a}", &["ring.size: an alias stands"]),
        ("debug:\n  buffer: \"64\"", &["debug.buffer: \"64\" is text; leave the quotes out", ":2"]),
        ("debug:\n  buffer: |\n    64", &["is text"]),
        ("[a]: b", &["a list stands where a key is expected"]),
        ("metrics:\n  ? {a: b}\n  : [c]\n", &["metrics: a mapping stands where a key"]),
        ("- metrics", &["a list stands where sections are expected"]),
        ("metrics", &["a single value stands where sections are expected"]),
        ("log: {}\n---\nlog: {}", &["holds more than one YAML document", ":3"]),
        ("log: {level: info", &["isn't valid YAML"]),
        ("log:\n\t level: info", &["isn't valid YAML", ":2"]),
        ("log: \"info", &["isn't valid YAML"]),
        ("log: {level: *gone}", &["isn't valid YAML"]),
        ("log:\n  level: \"in\\e[31mfo\\u202e\"", &["\"in\\u{1b}[31mfo\\u{202e}\" is none"]),
        ("\"a\\e[31m\": 1", &["a\\u{1b}[31m: unknown key"]),
    ] {
        let message = errors(load_file(content));
        for part in parts {
            assert!(message.contains(part), "{part:?} is missing for {content:?} in {message}");
        }
    }
}

#[test]
fn a_file_that_is_no_text_file_is_explained() {
    let large = format!("log: {{level: info}} #{}", "x".repeat(1 << 20));
    let directory = std::env::temp_dir();
    for (loaded, part) in [
        (load_path(&directory), "is a directory; name the file in it (the file is named by --config)"),
        (load_path(Path::new("/nowhere/a\u{1b}[31m.yaml")), "/nowhere/a\\u{1b}[31m.yaml: can't be opened"),
        (load_path(Path::new("")), "can't be opened"),
        (load_path(Path::new("/dev/zero")), "is larger than 1 MiB"),
        (load_file(&large), "is larger than 1 MiB"),
        (load_file(b"log:\n  level: \xff\xfe"), ".yaml:2: isn't UTF-8 text"),
        (load_file(b"\xff\xfel\0o\0g\0"), ".yaml:1: isn't UTF-8 text"),
    ] {
        let message = errors(loaded);
        assert!(message.contains(part), "{part:?} is missing in {message}");
    }
    assert!(load_file(&large[..1 << 20]).is_ok());
}

#[test]
fn all_errors_come_together_in_order() {
    let file = TempFile::new("nonsense: 1\nring:\n  size: 5\nlog:\n  level: loud\n  leve: info\n");
    let flags = Flags { values: vec![(option("events.rate"), "-1".into())], ..file.flags() };
    let variables = [("PODWITNESS_LOG_LEVLE", "x"), ("PODWITNESS_SENSORS_TCP", "on")];
    let variables = variables.map(|(name, value)| (OsString::from(name), OsString::from(value)));
    let message = errors(Config::load(&flags, variables));
    let mut at = 0;
    for part in [
        "the configuration has 7 errors:",
        "nonsense: unknown key",
        "ring.size: \"5\"",
        "log.level: \"loud\"",
        "log.leve: unknown key, did you mean log.level?",
        "sensors.tcp: \"on\"",
        "PODWITNESS_LOG_LEVLE: unknown variable, did you mean PODWITNESS_LOG_LEVEL?",
        "events.rate: \"-1\"",
    ] {
        at += message[at..]
            .find(part)
            .unwrap_or_else(|| panic!("{part:?} is missing or misplaced in {message}"));
    }
}

#[test]
fn a_wrong_value_counts_even_when_it_is_overridden() {
    let flags = Flags { values: vec![(option("log.level"), "info".into())], ..Flags::default() };
    let variables = [("PODWITNESS_LOG_LEVEL".into(), "loud".into())];
    assert!(errors(Config::load(&flags, variables)).contains("\"loud\""));
}

#[test]
fn values_that_do_not_go_together_are_refused() {
    let message = errors(load_flag("ring.poll_min", "501ms"));
    assert!(
        message.contains("ring.poll_min: 501ms is above ring.poll_max = 500ms (from the default)"),
        "{message}"
    );
    assert!(load_flag("ring.poll_min", "500ms").is_ok());
    let message = errors(load_file("metrics: {listen: ':9482'}"));
    let part =
        "debug.listen: 127.0.0.1:9482 takes the same address and port as metrics.listen = [::]:9482 (from ";
    assert!(message.contains(part), "{message}");
    // Not what the user wants yet: no conflict on top of the error.
    let message = errors(load_file("ring: {poll_min: 1s, poll_max: 10}"));
    assert!(message.starts_with("the configuration has 1 error:"), "{message}");
}

#[test]
fn a_certificate_goes_together_with_its_key() {
    for (certificate, key) in
        [("debug.tls_certificate_file", "debug.tls_key_file"), ("otlp.client_certificate", "otlp.client_key")]
    {
        let message = errors(load_flag(certificate, "/one"));
        let part =
            format!("{certificate}: /one is of no use without its key: {key} = none (from the default)");
        assert!(message.contains(&part), "{message}");
        let message = errors(load_flag(key, "/one"));
        let part = format!("{key}: /one is of no use without its certificate: {certificate} = none (from");
        assert!(message.contains(&part), "{message}");
    }
    let variables = [
        ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE".into(), "/all".into()),
        ("OTEL_EXPORTER_OTLP_LOGS_CLIENT_KEY".into(), "/logs".into()),
    ];
    assert!(Config::load(&Flags::default(), variables).is_ok(), "one signal has both");
}

#[cfg(unix)]
#[test]
fn variables_and_flags_that_are_no_text_are_refused() {
    use std::os::unix::ffi::OsStringExt;
    let broken = || OsString::from_vec(b"in\xfffo".to_vec());
    let message = errors(Config::load(&Flags::default(), [("PODWITNESS_LOG_LEVEL".into(), broken())]));
    assert!(message.contains("isn't UTF-8 text"), "{message}");
    let flags = Flags { values: vec![(option("log.level"), broken())], ..Flags::default() };
    assert!(errors(Config::load(&flags, [])).contains("from the flag --log-level"));
    let name = OsString::from_vec(b"PODWITNESS_\xff\x1b".to_vec());
    assert!(errors(Config::load(&Flags::default(), [(name, "x".into())])).contains("unknown variable"));
}

#[test]
fn whoever_listens_to_others_needs_a_token() {
    for address in ["0.0.0.0:1", "[::]:1", "10.0.0.1:1"] {
        let message = errors(load_flag("debug.listen", address));
        let expected = format!(
            "debug.listen: {address} is no loopback address, which needs a token: debug.token_file = none (from the default)"
        );
        assert!(message.contains(&expected), "{message}");
    }
    assert!(load_file("debug: {listen: \"0.0.0.0:1\", token_file: /run/token}").is_ok());
    assert!(load_flag("debug.listen", "127.0.0.2:1").is_ok());
}
