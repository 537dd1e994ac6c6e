//! Both listeners on a port of their own, and a client that knows nothing but TCP.

mod client;
mod debug;
mod metrics;
mod openapi;
mod server;
mod tls;

use std::{
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use tokio::{runtime::Runtime, sync::watch, task::JoinHandle};

use super::{Listener, Shutdown, bind};

/// For what must happen at some time; nothing is expected to take that long.
const DEADLINE: Duration = Duration::from_secs(30);

/// A listener being served.
struct Site {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    served: JoinHandle<()>,
    runtime: Runtime,
}

impl Site {
    fn new<F: Future<Output = ()> + Send + 'static>(serve: impl FnOnce(Listener, Shutdown) -> F) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let listener = runtime.block_on(bind(([127, 0, 0, 1], 0).into(), "test.listen")).unwrap();
        let address = listener.address();
        let (stop, shutdown) = watch::channel(false);
        let served = runtime.spawn(serve(listener, shutdown));
        Self { address, stop, served, runtime }
    }

    /// Stops it and waits until it has ended.
    fn stop(self) {
        self.stop.send_replace(true);
        self.ended();
    }

    fn ended(self) {
        let served = self.served;
        self.runtime.block_on(async { tokio::time::timeout(DEADLINE, served).await }).unwrap().unwrap();
    }
}

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < deadline, "{what} has not happened");
        thread::sleep(Duration::from_millis(1));
    }
}
