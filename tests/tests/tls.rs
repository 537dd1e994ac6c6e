//! The debug listener with TLS, on an address that is open to others.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, chown},
    process::Command,
};

use integration_tests::{
    Agent, Options, agent, http, kernel,
    otlp::Directory,
    require_kernel,
    tls::{self, Secret},
};
use serde_json::Value;

const TOKEN: &str = "a-token-of-the-test-alone";
const BEARER: &str = "Authorization: Bearer a-token-of-the-test-alone\r\n";
const HANDSHAKES: &str = "podwitness_debug_tls_handshakes_total";
const ROTATIONS: &str = "podwitness_debug_tls_rotations_total";
const OUTDATED: &str = "podwitness_debug_tls_outdated";

/// The agent has given up its capabilities by then, and reads the files again as they are replaced.
#[test]
fn a_certificate_is_replaced_while_the_agent_runs() {
    require_kernel!();
    let (secret, directory) = (Secret::new(), Directory::new());
    let token = directory.0.join("token");
    fs::write(&token, TOKEN).unwrap();
    let mut first = fs::read(secret.certificate()).unwrap();
    let agent = Agent::start(
        Options::default()
            .flag("debug-listen", "0.0.0.0:0")
            .flag("debug-token-file", token.to_str().unwrap())
            .flag("debug-tls-certificate-file", secret.certificate().to_str().unwrap())
            .flag("debug-tls-key-file", secret.key().to_str().unwrap()),
    );
    let get = |certificate: &[u8], more: &str| tls::get(agent.debug, certificate, "/v1/status", more);
    assert_eq!(get(&first, BEARER).unwrap().status, 200);
    assert_eq!(get(&first, "").unwrap().status, 401, "encrypted or not, others need the token");
    let plain = http::get(agent.debug, "/v1/status").unwrap();
    assert!(plain.status == 400 && plain.body.contains("use https://"), "{plain:?}");

    for turn in 1..=3 {
        secret.rotate();
        let second = fs::read(secret.certificate()).unwrap();
        assert_ne!(first, second);
        assert_eq!(get(&second, BEARER).unwrap().status, 200, "the next client already");
        assert!(get(&first, BEARER).is_err());
        assert_eq!(agent.scrape().count(ROTATIONS, &[("outcome", "taken")]), turn);
        first = second;
    }
    // A scrape alone finds a certificate that can't be used.
    secret.tear();
    for _ in 0..2 {
        let metrics = agent.scrape();
        let refused = metrics.count(ROTATIONS, &[("outcome", "refused")]);
        assert_eq!((refused, metrics.sum(OUTDATED, &[])), (1, 1.0));
    }
    assert_eq!(get(&first, BEARER).unwrap().status, 200, "what was good goes on");
    secret.rotate();
    let last = fs::read(secret.certificate()).unwrap();
    assert_eq!(get(&last, BEARER).unwrap().status, 200);
    let metrics = agent.scrape();
    assert_eq!(metrics.sum(OUTDATED, &[]), 0.0);
    for (outcome, count) in [("completed", 7), ("plain_http", 1), ("refused", 3), ("timed_out", 0)] {
        assert_eq!(metrics.count(HANDSHAKES, &[("outcome", outcome)]), count, "{outcome}");
    }
    assert!(agent.output().contains("keeps the certificate that it has"), "{}", agent.output());
}

#[test]
fn what_can_not_serve_is_refused_at_the_start() {
    require_kernel!();
    let (secret, other) = (Secret::new(), Secret::new());
    let certificate = secret.certificate().display().to_string();
    let start = |key: &[&str]| {
        let flags = ["--identity-docker-socket", "off", "--identity-podman-socket", "off"];
        let listen = ["agent", "--debug-listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"];
        let words = [&listen[..], &flags, &["--debug-tls-certificate-file", &certificate], key].concat();
        let output = agent::run(&words);
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let said = start(&[]);
    assert!(said.contains("is of no use without its key: debug.tls_key_file = none"), "{said}");
    let said = start(&["--debug-tls-key-file", other.key().to_str().unwrap()]);
    assert!(said.contains("is not that of the certificate"), "{said}");
    // Readable now by a capability alone, which the agent is going to give up.
    let key = fs::canonicalize(secret.key()).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o400)).unwrap();
    chown(&key, Some(65534), Some(65534)).unwrap();
    let said = start(&["--debug-tls-key-file", secret.key().to_str().unwrap()]);
    assert!(said.contains("able to without a capability"), "{said}");
}

/// The certificate that docs/live.md makes is believed by the commands that look for agents.
#[test]
fn the_recipe_for_a_certificate_works() {
    require_kernel!();
    if kernel::is_vm() {
        return eprintln!("not run: the emulated machines have no openssl");
    }
    let document = include_str!("../../docs/live.md");
    let begin = document.find("openssl req").expect("the recipe");
    let (recipe, _) = document[begin..].split_once("openssl rand").expect("what comes behind it");
    let recipe = recipe.replace("10.0.0.7", "127.0.0.1");
    let directory = Directory::new();
    let made = Command::new("sh").args(["-ec", &recipe]).current_dir(&directory.0).output().expect("sh");
    assert!(made.status.success(), "{recipe}: {}", String::from_utf8_lossy(&made.stderr));
    let [certificate, key, token] =
        ["tls.crt", "tls.key", "token"].map(|name| directory.0.join(name).display().to_string());
    fs::write(&token, TOKEN).unwrap();
    let agent = Agent::start(
        Options::default()
            .flag("debug-token-file", &token)
            .flag("debug-tls-certificate-file", &certificate)
            .flag("debug-tls-key-file", &key),
    );
    let address = format!("https://{}", agent.debug);
    let asked =
        agent::run(&["doctor", "--addr", &address, "--ca-file", &certificate, "--token-file", &token]);
    assert!(asked.status.success(), "{}", String::from_utf8_lossy(&asked.stderr));
    assert_eq!(
        tls::get(agent.debug, &fs::read(&certificate).unwrap(), "/v1/status", BEARER).unwrap().status,
        200
    );
}

#[test]
fn the_doctor_advises_to_encrypt() {
    require_kernel!();
    let (secret, directory) = (Secret::new(), Directory::new());
    let token = directory.0.join("token");
    fs::write(&token, TOKEN).unwrap();
    let told = |flags: &[&str]| {
        let words = ["doctor", "-o", "json", "--debug-listen", "0.0.0.0:9482", "--debug-token-file"];
        let output = agent::run(&[&words[..], &[token.to_str().unwrap()], flags].concat());
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let checks = report["checks"].as_array().unwrap();
        checks.iter().find(|check| check["name"] == "debug").unwrap().clone()
    };
    let open = told(&[]);
    assert!(open["ok"] == true && open["found"].as_str().unwrap().contains("debug.tls_key_file"), "{open}");
    let certificate = secret.certificate().display().to_string();
    let key = secret.key().display().to_string();
    let flags = ["--debug-tls-certificate-file", &certificate, "--debug-tls-key-file", &key];
    assert_eq!(told(&flags)["found"], "https://0.0.0.0:9482");
    secret.tear();
    let torn = told(&flags);
    assert!(torn["ok"] == false && torn["found"].as_str().unwrap().contains("is cut short"), "{torn}");
}
