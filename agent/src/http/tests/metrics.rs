use std::{
    io::Read,
    sync::{Arc, Condvar, Mutex},
    thread,
};

use super::{
    DEADLINE, Site,
    client::{connect, get, read_head, request},
};
use crate::http::{Exposition, Format, Health, RenderError, Scrapes, Text, serve_metrics};

struct Page(&'static str);

fn text(page: String) -> Text {
    Box::new([page.into()].into_iter())
}

impl Exposition for Page {
    fn render(&self, format: Format) -> Result<Text, RenderError> {
        match self.0 {
            "panic" => panic!("on purpose"),
            "" => Err("a label is missing".into()),
            page => Ok(text(format!("{page} {format:?}\n"))),
        }
    }
}

fn site(exposition: impl Exposition) -> (Site, Arc<Scrapes>, Health) {
    let (scrapes, health) = (Arc::new(Scrapes::default()), Health::waiting_for("the programs"));
    let site = Site::new(|listener, shutdown| {
        let (scrapes, health) = (Arc::clone(&scrapes), health.clone());
        serve_metrics(listener, Arc::new(exposition), scrapes, health, Arc::default(), shutdown)
    });
    (site, scrapes, health)
}

#[test]
fn a_scraper_gets_the_format_that_it_prefers() {
    let (site, scrapes, _) = site(Page("page"));
    let scrape = |accept: &str| {
        request(site.address, &format!("GET /metrics HTTP/1.1\r\nHost: node-7:9481\r\nAccept: {accept}\r\n"))
    };
    let answer = scrape("application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.3");
    assert_eq!((answer.status, answer.body.as_str()), (200, "page OpenMetrics\n"));
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert_eq!(answer.header("content-type"), Some(content_type));
    assert_eq!(answer.header("vary"), Some("Accept"));
    let answer = scrape("*/*");
    assert_eq!((answer.status, answer.body.as_str()), (200, "page Text\n"));
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    assert_eq!((scrapes.rendered(), scrapes.failed(), scrapes.refused()), (2, 0, 0));
    site.stop();
}

#[test]
fn probes_tell_the_state_and_the_reason() {
    let (site, _, health) = site(Page("page"));
    let probe = |path: &str| {
        let answer = get(site.address, path);
        (answer.status, answer.body)
    };
    assert_eq!(probe("/healthz"), (200, "ok\n".into()));
    assert_eq!(probe("/readyz"), (503, "waiting for the programs\n".into()));
    health.set_ready();
    assert_eq!(probe("/readyz"), (200, "ok\n".into()));
    health.fail("the ring reader has ended");
    assert_eq!(probe("/healthz"), (503, "the ring reader has ended\n".into()));
    assert_eq!(probe("/readyz"), (503, "the ring reader has ended\n".into()));
    assert_eq!(probe("/metrics").0, 200, "metrics say more than a probe, above all then");
    site.stop();
}

#[test]
fn other_places_and_methods_are_refused() {
    let (site, ..) = site(Page("page"));
    assert!(get(site.address, "/").body.contains("/metrics"));
    for path in ["/metrics/", "/v1/events", "/metricsx", "//metrics"] {
        assert_eq!(get(site.address, path).status, 404, "{path}");
    }
    let head = "POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n";
    assert_eq!(request(site.address, head).status, 405);
    site.stop();
}

#[test]
fn a_page_that_cannot_be_made_is_an_error_and_counted() {
    for (page, reason) in [("", "a label is missing"), ("panic", "panicked")] {
        let (site, scrapes, _) = site(Page(page));
        let answer = get(site.address, "/metrics");
        assert_eq!(answer.status, 500);
        assert!(answer.body.contains(reason), "{}", answer.body);
        assert_eq!((scrapes.rendered(), scrapes.failed()), (0, 1));
        site.stop();
    }
}

/// Renders only once the gate is open, and tells how many wait before it.
#[derive(Default)]
struct Gate {
    /// How many wait, and whether it is open.
    state: Mutex<(usize, bool)>,
    changed: Condvar,
}

impl Exposition for Arc<Gate> {
    fn render(&self, _: Format) -> Result<Text, RenderError> {
        let mut state = self.state.lock().unwrap();
        state.0 += 1;
        self.changed.notify_all();
        let (state, waited) = self.changed.wait_timeout_while(state, DEADLINE, |(_, open)| !*open).unwrap();
        drop(state);
        assert!(!waited.timed_out());
        Ok(text("page\n".into()))
    }
}

#[test]
fn too_many_scrapes_at_a_time_are_refused_and_counted() {
    let gate = Arc::new(Gate::default());
    let (site, scrapes, _) = site(Arc::clone(&gate));
    let address = site.address;
    let clients: Vec<_> = (0..4).map(|_| thread::spawn(move || get(address, "/metrics").status)).collect();
    let state = gate.state.lock().unwrap();
    let (state, waited) =
        gate.changed.wait_timeout_while(state, DEADLINE, |(inside, _)| *inside < 4).unwrap();
    assert!(!waited.timed_out());
    drop(state);

    let refused = get(address, "/metrics");
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")));
    assert_eq!(get(address, "/healthz").status, 200, "probes don't wait for scrapes");

    gate.state.lock().unwrap().1 = true;
    gate.changed.notify_all();
    for client in clients {
        assert_eq!(client.join().unwrap(), 200);
    }
    assert_eq!(get(address, "/metrics").status, 200);
    assert_eq!((scrapes.rendered(), scrapes.refused()), (5, 1));
    site.stop();
}

#[test]
fn a_kept_connection_serves_again_and_ends_with_the_listener() {
    let (site, ..) = site(Page("page"));
    let request = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut connection = connect(site.address, &request.repeat(2));
    for _ in 0..2 {
        assert_eq!(read_head(&mut connection).0, 200);
        connection.read_exact(&mut [0; "ok\n".len()]).unwrap();
    }
    site.stop();
    assert_eq!(connection.read(&mut [0]).unwrap(), 0);
}
