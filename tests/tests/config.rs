//! Configuration from the outside: judged as a whole before anything is bound or loaded.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    process::Stdio,
};

use integration_tests::{agent, wait::unique};

/// A file that is removed when this goes.
struct File(PathBuf);

impl File {
    fn new(text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("podwitness-test-{}.yaml", unique()));
        fs::write(&path, text).unwrap();
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// The exit code with these arguments and variables, and what was said.
#[track_caller]
fn outcome(arguments: &[&str], variables: &[(&str, &str)]) -> (Option<i32>, String) {
    let mut command = agent::command(arguments);
    command.envs(variables.iter().copied()).stdout(Stdio::null()).stderr(Stdio::piped());
    let output = agent::output(command.spawn().unwrap());
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// What the agent says when it refuses to start with these arguments.
#[track_caller]
fn refusal(arguments: &[&str]) -> String {
    let output = agent::run(arguments);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{arguments:?} was accepted");
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(!printed.contains("http://"), "{arguments:?}: something was bound: {printed}");
    assert!(!said.contains("panicked"), "{said}");
    said
}

#[test]
fn a_wrong_value_is_refused_by_name_before_anything_binds() {
    // Were a listener bound first, the message would be about the occupied port.
    let occupied = TcpListener::bind("127.0.0.1:0").unwrap();
    let address: SocketAddr = occupied.local_addr().unwrap();
    let address = address.to_string();
    for (flag, value, key) in [
        ("--ring-size", "5000", "ring.size"),
        ("--ring-size", "many", "ring.size"),
        ("--metrics-grace", "soon", "metrics.grace"),
        ("--log-level", "loud", "log.level"),
        ("--debug-listen", "nowhere", "debug.listen"),
    ] {
        let said = refusal(&["agent", "--metrics-listen", &address, flag, value]);
        assert!(said.contains(key) || said.contains(flag), "{flag} {value}: neither is named: {said}");
        assert!(said.contains(value), "{flag} {value}: the value is not named: {said}");
        assert!(!said.contains("in use"), "{flag} {value}: bound before judged: {said}");
    }
}

#[test]
fn mistakes_of_who_types_have_an_exit_code_of_their_own() {
    for (arguments, part) in [
        (&["tail", "kind=tcpx"][..], "no value for `kind`"),
        (&["tail", "pod in ()"], "a value is expected"),
        (&["tail", "--since", "1x"], "--since: `1x` is no time"),
        (&["tail", "--addr", "nohost"], "nohost has no port"),
        (&["top", "--once", "pid=1"], "pid"),
        (&["why"], "whose deaths?"),
        (&["metrics", "--dry-run", "--addr", "nohost"], "nohost is no address with a port"),
    ] {
        let (code, said) = outcome(arguments, &[]);
        assert!(code == Some(2) && said.contains(part), "{arguments:?}: {code:?} {said}");
    }
    let (code, said) = outcome(&["agent"], &[("PODWITNESS_LOG", "a=b=c")]);
    assert!(code == Some(2) && said.contains("PODWITNESS_LOG is no filter"), "{code:?} {said}");
    // Nothing is wrong with this one: there is no agent.
    let (code, said) = outcome(&["tail", "--addr", "127.0.0.1:1"], &[]);
    assert!(code == Some(1) && said.contains("no agent answers"), "{code:?} {said}");
}

/// A developer's shell has OpenTelemetry's variables for the developer's programs.
#[test]
fn who_sends_nothing_reads_no_variables_of_opentelemetry() {
    let variables = [("OTEL_TRACES_EXPORTER", "console")];
    for (arguments, expected) in [
        (&["tail", "--addr", "127.0.0.1:1"][..], Some(1)),
        (&["top", "--once", "--addr", "127.0.0.1:1"], Some(1)),
        (&["metrics"], Some(0)),
        (&["config"], Some(2)),
        (&["doctor", "--addr", "127.0.0.1:1"], Some(1)),
        (&["agent"], Some(2)),
    ] {
        let (code, said) = outcome(arguments, &variables);
        assert_eq!(code, expected, "{arguments:?}: {said}");
        assert_eq!(said.contains("OTEL_TRACES_EXPORTER"), code == Some(2), "{arguments:?}: {said}");
    }
}

#[test]
fn a_full_disk_is_told_of() {
    for arguments in [&["config"][..], &["completions", "bash"]] {
        let full = fs::File::options().write(true).open("/dev/full").unwrap();
        let child = agent::command(arguments).stdout(full).stderr(Stdio::piped()).spawn().unwrap();
        let output = agent::output(child);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(1) && said.contains("No space left"), "{arguments:?}: {said}");
    }
}

#[test]
fn errors_of_a_file_are_told_all_at_once() {
    let file = File::new("ring:\n  size: 5000\nmetrics:\n  grace: soon\n");
    let said = refusal(&["agent", "--config", file.path()]);
    for (key, value) in [("ring.size", "5000"), ("metrics.grace", "soon")] {
        assert!(said.contains(key) && said.contains(value), "{key}: {said}");
    }
    let file = File::new("ring:\n  sise: 4096\n");
    let said = refusal(&["agent", "--config", file.path()]);
    assert!(said.contains("sise"), "an unknown key is no comment: {said}");
    let said = refusal(&["agent", "--config", "/nonexistent/podwitness.yaml"]);
    assert!(said.contains("/nonexistent/podwitness.yaml"), "{said}");
}

#[test]
fn flags_outrank_the_environment_and_that_outranks_the_file() {
    let file = File::new("metrics:\n  grace: 11s\nring:\n  size: 8192\nevents:\n  rate: 77\n");
    let mut command = agent::command(&["config", "--config", file.path(), "--ring-size", "16384"]);
    command.env("PODWITNESS_RING_SIZE", "32768").env("PODWITNESS_EVENTS_RATE", "78");
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let printed = String::from_utf8(output.stdout).unwrap();
    let value = |key: &str| {
        let line = printed.lines().find_map(|line| line.trim().strip_prefix(&format!("{key}: ")));
        line.unwrap_or_else(|| panic!("{key} is not in\n{printed}")).split(" #").next().unwrap().trim()
    };
    assert_eq!(value("size"), "16KiB", "{printed}");
    assert_eq!(value("rate"), "78", "{printed}");
    assert_eq!(value("grace"), "11s", "{printed}");
    assert!(printed.contains('#'), "the configuration is explained: {printed}");

    // What it prints, it reads. (The comments differ: they tell where a value comes from.)
    let again = File::new(&printed);
    let output = agent::run(&["config", "--config", again.path()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let values = |text: &str| {
        let lines = text.lines().filter(|line| !line.trim().is_empty() && !line.trim().starts_with('#'));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(values(&String::from_utf8(output.stdout).unwrap()), values(&printed));
}
