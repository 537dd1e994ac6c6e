//! Who may say what, and who is heard.

use std::path::PathBuf;

use super::*;
use crate::config::Origin;

#[test]
fn without_anything_the_defaults_hold() {
    let (config, effective) = Config::load(&Flags::default(), []).unwrap();
    assert_eq!(config, Config::default());
    assert_eq!(effective.chosen().count(), 0);
    assert_eq!(config.metrics.listen, "0.0.0.0:9481".parse().unwrap());
    assert_eq!(config.ring.size, 4 << 20);
    assert_eq!(config.ring.poll_max, std::time::Duration::from_millis(500));
    assert_eq!(config.log.level, tracing::Level::INFO);
}

/// The kubelet's longest wait between two starts of a container is 5 minutes (`MaxContainerBackOff`).
#[test]
fn by_default_the_counters_of_a_crash_loop_go_on() {
    let backoff = std::time::Duration::from_mins(5);
    assert!(Config::default().metrics.grace > backoff + Config::default().identity.scan_interval);
}

#[test]
fn samples_cover_the_table() {
    let keys = |keys: &mut dyn Iterator<Item = &'static str>| keys.collect::<Vec<_>>();
    assert_eq!(
        keys(&mut SAMPLES.iter().map(|(key, _)| *key)),
        keys(&mut OPTIONS.iter().map(|option| option.key))
    );
}

#[test]
fn every_option_can_be_set_from_everywhere() {
    for (key, samples) in SAMPLES {
        for sample in samples.into_iter().filter(|sample| *sample != option(key).default) {
            let load = |file: &str, env: &[(&str, &str)], flags: &[(&'static str, &str)]| {
                let file = TempFile::new(file);
                let values = flags
                    .iter()
                    .copied()
                    .chain(neighbour(key))
                    .map(|(key, value)| (option(key), value.into()))
                    .collect();
                let flags = Flags { file: Some(file.0.clone()), values };
                Config::load(&flags, env.iter().map(|(name, value)| (name.into(), value.into()))).unwrap()
            };
            let (from_file, effective) = load(&yaml(key, sample), &[], &[]);
            assert_eq!(value(&effective, key).text, sample);
            assert!(
                matches!(value(&effective, key).origin, Origin::File { line: Some(2), .. }),
                "{effective:?}"
            );

            let (from_env, effective) = load("", &[(&option(key).env(), sample)], &[]);
            assert_eq!(value(&effective, key).text, sample);
            assert_eq!(value(&effective, key).origin, Origin::Environment(option(key).env()));

            let (from_flag, effective) = load("", &[], &[(key, sample)]);
            assert_eq!(value(&effective, key).text, sample);
            assert_eq!(value(&effective, key).origin, Origin::Flag(option(key).flag()));

            let mut without = Config::default();
            if let Some((key, value)) = neighbour(key) {
                option(key).set(&mut without, value).unwrap();
            }
            assert_ne!(from_file, without, "{key} = {sample} reaches no field");
            assert_eq!(from_file, from_env);
            assert_eq!(from_file, from_flag);
        }
    }
}

#[test]
fn flags_override_the_environment_and_that_the_file() {
    for (key, [file, env, flag]) in SAMPLES {
        let beside = neighbour(key).map(|(key, value)| format!("  {}: {value}\n", option(key).name()));
        let file = TempFile::new(yaml(key, file) + &beside.unwrap_or_default());
        let variables = || [(OsString::from(option(key).env()), OsString::from(env))];
        let flags = Flags { values: vec![(option(key), flag.into())], ..file.flags() };

        let (_, effective) = Config::load(&flags, variables()).unwrap();
        assert_eq!(value(&effective, key).text, flag);
        assert_eq!(value(&effective, key).origin, Origin::Flag(option(key).flag()));

        let (_, effective) = Config::load(&file.flags(), variables()).unwrap();
        assert_eq!(value(&effective, key).text, env);
        assert_eq!(value(&effective, key).origin, Origin::Environment(option(key).env()));
    }
}

#[test]
fn the_environment_names_a_file_and_the_flag_another() {
    let (one, other) = (TempFile::new("log: {level: warn}"), TempFile::new("log: {level: debug}"));
    let variables = || [("PODWITNESS_CONFIG".into(), one.0.clone().into_os_string())];
    assert_eq!(Config::load(&Flags::default(), variables()).unwrap().0.log.level, tracing::Level::WARN);
    assert_eq!(Config::load(&other.flags(), variables()).unwrap().0.log.level, tracing::Level::DEBUG);

    let missing = [("PODWITNESS_CONFIG".into(), PathBuf::from("/nowhere/podwitness.yaml").into_os_string())];
    let text = errors(Config::load(&Flags::default(), missing));
    assert!(text.contains("/nowhere/podwitness.yaml: can't be opened"), "{text}");
    assert!(text.contains("named by PODWITNESS_CONFIG"), "{text}");
}

#[test]
fn other_notations_mean_the_same() {
    for (key, text, canonical) in [
        ("metrics.listen", ":9481", "[::]:9481"),
        ("metrics.grace", "90 minutes", "1h30m"),
        ("ring.size", "65536", "64KiB"),
        ("limits.map_memory", "1Gi", "1GiB"),
        ("debug.buffer", "0064", "64"),
        ("otlp.sample_ratio", "1e-05", "0.00001"),
    ] {
        let (from_file, effective) = load_file(yaml(key, text)).unwrap();
        assert_eq!(value(&effective, key).text, canonical);
        assert_eq!(from_file, load_env(&option(key).env(), canonical).unwrap().0);
        assert_eq!(from_file, load_flag(key, text).unwrap().0);
    }
}

#[test]
fn files_may_be_written_in_any_yaml_style() {
    let expected = load_flag("metrics.listen", "[::]:1").unwrap().0;
    for content in [
        "metrics:\n  listen: '[::]:1'\n",
        "metrics: {listen: \"[::]:1\"}",
        "{\"metrics\": {\"listen\": \"[::]:1\"}}",
        "---\nmetrics:\r\n  listen: :1 # all\r\n...\n",
        "\u{feff}metrics:\n  listen: >-\n    [::]:1\n",
        "metrics.listen: :1\nring:\n",
        "sensors: ~\nmetrics: &anchor\n  listen: :1\n",
    ] {
        assert_eq!(load_file(content).unwrap().0, expected, "{content}");
    }
    for content in ["", "\n", "# nothing\n", "---\n", "---\n...\n", "{}", "null", "\u{feff}"] {
        assert_eq!(load_file(content).unwrap().0, Config::default(), "{content:?}");
    }
}
