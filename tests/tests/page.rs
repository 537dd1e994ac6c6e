//! The page at the debug listener, in a real browser.

use integration_tests::{
    Agent, Browser, Cgroup, NetNs, Options, Workload, browser, kernel,
    netns::CLOSED_V4,
    require_kernel,
    wait::{PATIENCE, wait_until},
};

/// A listener that the page finds again after the agent's restart.
fn fixed_port() -> String {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    free.local_addr().unwrap().to_string()
}

#[test]
fn somebody_with_a_browser_sees_what_a_container_does() {
    require_kernel!();
    let Some(program) = browser::program() else {
        return kernel::not_run(
            "there is no Chromium here: install Debian's package chromium-headless-shell",
        );
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

    // By keyboard: a time opens its event, and closes it again.
    page.evaluate("document.querySelector('#events tr[data-kind=\"tcp.connect\"] button').focus()");
    page.press("Enter");
    page.wait("document.querySelector('#events tr.detail')?.textContent.includes('remote_port') === true");
    page.press("Enter");
    page.wait("document.querySelector('#events tr.detail') === null");
    // What has the focus keeps it while the table is filled anew.
    page.evaluate(
        "document.querySelector('#containers button').focus(); window.held = document.activeElement",
    );
    page.wait(
        "!document.contains(window.held) && document.activeElement.dataset.of === window.held.dataset.of",
    );

    // With the switch, the kernel tells the paths of the calls that the filter names.
    page.evaluate("document.getElementById('paths').focus()");
    page.press(" ");
    page.wait("document.getElementById('paths').checked && location.search.includes('paths=true')");
    page.evaluate("document.getElementById('filter').value = ''; document.getElementById('filter').focus()");
    page.enter(&format!("syscall=openat workload=\"{}\"", cgroup.path()));
    wait_until(PATIENCE, "the kernel watches the call", || {
        agent.scrape().sum("podwitness_calls_watched_cgroups", &[]) == 1.0
    });
    let (calls, _) = Workload::run(&["calls", "--enoent", "2"], &cgroup);
    page.wait("document.getElementById('events').textContent.includes('/proc/no such file')");
    calls.finish();
    page.evaluate("document.getElementById('paths').focus()");
    page.press(" ");
    page.wait("!document.getElementById('paths').checked && !location.search.includes('paths')");
    page.evaluate("document.getElementById('filter').value = ''; document.getElementById('filter').focus()");
    page.enter(&format!("kind=tcp.connect errno=ECONNREFUSED workload=\"{}\"", cgroup.path()));
    page.wait("document.querySelectorAll('#events tr[data-kind=\"tcp.connect\"]').length === 3");

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

/// Makes the pictures in the README anew, of what this kernel does: `cargo test -p integration-tests --test page --
/// --ignored`, after a build, as root.
#[test]
#[ignore = "writes docs/images"]
fn pictures_for_the_readme() {
    require_kernel!();
    let program = browser::program().expect("Chromium");
    let agent = Agent::start(Options::default().flag("identity-node-name", "node-7"));
    let (shop, batch) = (Cgroup::new("shop"), Cgroup::new("batch"));
    let mut page = Browser::open(&program, &format!("http://{}/", agent.debug));
    page.size(1100, 760);
    page.wait("document.getElementById('connection').textContent === 'live'");
    page.key("/");
    page.wait("document.activeElement.id === 'filter'");
    page.enter("kind in (tcp.connect, oom, process.exit) workload~\"-(shop|batch)-\"");
    page.wait("location.search !== ''");
    page.wait("document.getElementById('connection').textContent === 'live'");

    let netns = NetNs::new();
    let namespace = netns.path().display().to_string();
    let (web, _) = Workload::run(&["loopback", "--count", "3"], &shop);
    let connect = ["connect", "--addr", CLOSED_V4, "--count", "2", "--netns", &namespace];
    let (refused, _) = Workload::run(&connect, &shop);
    page.wait("document.getElementById('events').textContent.includes('ECONNREFUSED')");
    batch.limit_memory(48);
    let mut victim = Workload::prepare(&["hog", "--mib", "96"], &batch);
    victim.go();
    victim.wait();
    page.wait("document.querySelector('#events tr[data-kind=\"oom.kill\"]') !== null");
    page.evaluate("document.querySelector('#events tr[data-kind=\"oom.kill\"] button').click()");
    page.wait("document.querySelector('#events tr.detail') !== null");
    // Rates need two looks at the containers.
    page.wait("document.querySelectorAll('#containers polyline').length > 1");
    let (more, _) = Workload::run(&["syscalls", "--getppid", "20000"], &shop);
    page.wait(
        "[...document.querySelectorAll('#containers tr')].some(row => row.textContent.includes('getppid'))",
    );
    page.evaluate("document.activeElement.blur()");
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/images");
    std::fs::create_dir_all(&directory).unwrap();
    for scheme in ["light", "dark"] {
        let file = directory.join(format!("page-{scheme}.png"));
        page.picture(&file, scheme);
        let length = std::fs::metadata(&file).unwrap().len();
        assert!(length < 150_000, "{}: {length} bytes", file.display());
    }
    for helper in [web, refused, more] {
        helper.finish();
    }
}
