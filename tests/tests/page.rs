//! The page at the debug listener, in a real browser.

use integration_tests::{
    Agent, Browser, Cgroup, NetNs, Options, Workload, browser, kernel, netns::CLOSED_V4, require_kernel,
};

/// A listener that the page finds again after the agent's restart.
fn fixed_port() -> String {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    free.local_addr().unwrap().to_string()
}

#[test]
fn somebody_with_a_browser_sees_what_a_container_does() {
    require_kernel!();
    if kernel::is_vm() {
        return eprintln!("not run: the emulated machines have no Chromium");
    }
    let Some(program) = browser::program() else {
        assert!(
            std::env::var_os("CI").is_none(),
            "no Chromium: install Debian's package chromium-headless-shell"
        );
        return eprintln!("not run: there is no Chromium here (Debian's package chromium-headless-shell)");
    };
    let address = fixed_port();
    let mut agent = Agent::start(Options::default().flag("debug-listen", &address));
    let cgroup = Cgroup::new("page");
    let mut page = Browser::open(&program, &format!("http://{address}/"));
    page.wait("document.getElementById('connection').textContent === 'live'");

    // A mistake is shown in its place, and the stream goes on.
    page.key("/");
    page.wait("document.activeElement.id === 'filter'");
    page.enter("kind=tcp.conect");
    page.wait("document.getElementById('mistake').textContent.includes('did you mean `tcp.connect`?')");
    page.wait("document.getElementById('filter').getAttribute('aria-invalid') === 'true'");

    // A connect that fails, in a container that nobody else uses.
    page.evaluate("document.getElementById('filter').value = ''");
    page.enter(&format!("kind=tcp.connect errno=ECONNREFUSED workload=\"{}\"", cgroup.path()));
    page.wait("document.getElementById('mistake').textContent === ''");
    page.wait("document.getElementById('connection').textContent === 'live'");
    let netns = NetNs::new();
    let namespace = netns.path().display().to_string();
    let connect = ["connect", "--addr", CLOSED_V4, "--count", "3", "--netns", &namespace];
    let (refused, _) = Workload::run(&connect, &cgroup);
    page.wait("document.querySelectorAll('#events tr[data-kind=\"tcp.connect\"]').length === 3");
    page.wait("document.getElementById('events').textContent.includes('ECONNREFUSED')");
    refused.finish();

    // The container is in its table, with a line of what it did.
    page.wait(&format!("document.getElementById('containers').textContent.includes('{}')", cgroup.path()));

    // Who died, and how.
    let limited = Cgroup::new("page-oom");
    limited.limit_memory(32);
    let mut victim = Workload::prepare(&["hog", "--mib", "64"], &limited);
    victim.go();
    victim.wait();
    page.wait(
        "document.querySelector('#deaths tr[data-kind=\"oom.kill\"]')?.textContent.includes('memory of the container') \
         === true",
    );
    if let Some(directory) = std::env::var_os("PODWITNESS_PICTURES") {
        for scheme in ["light", "dark"] {
            page.picture(&std::path::Path::new(&directory).join(format!("page-{scheme}.png")), scheme);
        }
    }

    // The agent goes and comes back; so does the page, by itself, with its filter.
    agent.stop();
    page.wait("document.getElementById('connection').textContent !== 'live'");
    let again = Agent::start(Options::default().flag("debug-listen", &address));
    page.wait("document.getElementById('connection').textContent === 'live'");
    let (refused, _) = Workload::run(&connect, &cgroup);
    page.wait("document.querySelectorAll('#events tr[data-kind=\"tcp.connect\"]').length === 6");
    refused.finish();
    assert!(page.complaints().is_empty(), "{:#?}", page.complaints());
    drop(again);
}
