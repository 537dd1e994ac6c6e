//! The table itself, and what is generated from it.

use std::collections::HashSet;

use super::*;
use crate::config::markdown;
use crate::config::options::sections;

#[test]
fn the_table_is_complete_and_unambiguous() {
    let unique = |of: fn(&OptionSpec) -> String| OPTIONS.iter().map(of).collect::<HashSet<_>>().len();
    assert_eq!(unique(|option| option.key.to_owned()), OPTIONS.len());
    assert_eq!(unique(OptionSpec::env), OPTIONS.len());
    assert_eq!(unique(OptionSpec::flag), OPTIONS.len());
    let names: Vec<_> = sections().map(|options| options[0].section()).collect();
    assert_eq!(
        names.iter().collect::<HashSet<_>>().len(),
        names.len(),
        "the options of a section stand together"
    );
    for option in OPTIONS {
        let parts: Vec<_> = option.key.split('.').collect();
        assert_eq!(parts, [option.section(), option.name()], "one section, one name");
        assert!(
            parts.iter().all(|part| part.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')),
            "{parts:?}"
        );
        assert!(option.doc.ends_with('.') && !option.doc.contains('\n'), "{}: one paragraph", option.key);
        assert_ne!(option.flag(), "config", "taken");
        assert_ne!(option.env(), "PODWITNESS_CONFIG", "taken");
        assert_ne!(option.env(), "PODWITNESS_LOG", "taken");
    }
}

#[test]
fn every_default_is_valid_and_in_its_usual_notation() {
    for option in OPTIONS {
        let text = option.set(&mut Config::blank(), option.default);
        assert_eq!(text.as_deref(), Ok(option.default), "{}", option.key);
    }
}

#[test]
fn what_is_printed_can_be_given_back() {
    for round in 0..3 {
        let values = SAMPLES.iter().map(|(key, samples)| match *key {
            "ring.poll_max" => (option(key), "1s".into()),
            key => (option(key), samples[round].into()),
        });
        let (config, effective) = Config::load(&Flags { file: None, values: values.collect() }, []).unwrap();
        let (again, effective_again) = load_file(effective.to_string()).unwrap();
        assert_eq!(again, config, "{effective}");
        for (value, value_again) in effective.values.iter().zip(&effective_again.values) {
            assert_eq!(value.text, value_again.text);
        }
    }
    let (config, effective) = Config::load(&Flags::default(), []).unwrap();
    assert_eq!(load_file(effective.to_string()).unwrap().0, config);
}

#[test]
fn what_is_printed_says_who_said_so() {
    let file = TempFile::new("metrics:\n  grace: 1m\n");
    let flags = Flags { values: vec![(option("log.level"), "warn".into())], ..file.flags() };
    let variables = [("PODWITNESS_EVENTS_RATE".into(), "7".into())];
    let (_, effective) = Config::load(&flags, variables).unwrap();
    let text = effective.to_string();
    for part in [
        format!("  # From {}:2.\n  grace: 1m\n", file.0.display()),
        "  # From the environment variable PODWITNESS_EVENTS_RATE.\n  rate: 7\n".to_owned(),
        "  # From the flag --log-level.\n  level: warn\n".to_owned(),
        "  # Allowed: a whole number from 16 to 1048576. Default: 4096.\n  buffer: 4096\n".to_owned(),
    ] {
        assert!(text.contains(&part), "{part} is missing in {text}");
    }
    assert_eq!(text.matches("# From ").count(), 3);
    let chosen: Vec<_> = effective.chosen().map(|value| value.option.key).collect();
    assert_eq!(chosen, ["metrics.grace", "events.rate", "log.level"]);
}

#[test]
fn a_path_can_not_break_out_of_its_comment() {
    let file = TempFile::new("log: {level: warn}");
    let path = file.0.with_extension("\n  level: trace\n#");
    std::fs::copy(&file.0, &path).unwrap();
    let loaded = load_path(&path);
    std::fs::remove_file(&path).unwrap();
    let (config, effective) = loaded.unwrap();
    assert_eq!(load_file(effective.to_string()).unwrap().0, config);
}

#[test]
fn the_documentation_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md");
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        written == markdown(),
        "docs/configuration.md is not what the table says; write it again with\n\
         cargo run -p podwitness -- config --markdown > docs/configuration.md"
    );
}

#[test]
fn what_reads_as_something_else_comes_back_as_it_was() {
    for (key, text) in [
        ("observe.namespaces", "null"),
        ("identity.kubeconfig", "/home/o'hara/\"x\"\\.yaml"),
        ("identity.kubeconfig", "/\u{1b}[2J/\u{e9}\u{1f980}\n"),
    ] {
        let (config, effective) = load_flag(key, text).unwrap();
        assert_eq!(load_file(effective.to_string()).unwrap().0, config, "{text:?}");
    }
}
