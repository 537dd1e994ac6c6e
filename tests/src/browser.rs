//! A real browser without a window, spoken to through a pipe by the DevTools protocol.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Write},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, sync_channel},
    thread,
    time::Duration,
};

use serde_json::{Value, json};

#[path = "../../xtask/src/chromium.rs"]
mod chromium;

use chromium::NAMES;

use crate::wait::{PATIENCE, scaled, unique, wait_until, within};

/// Messages of the browser that nobody has looked at yet; then it waits.
const WAITING: usize = 1000;

/// A browser with one page; it is ended and its profile removed when this goes.
pub struct Browser {
    child: Child,
    directory: PathBuf,
    input: File,
    messages: Receiver<Value>,
    session: String,
    asked: u64,
    /// What the page has complained about.
    complaints: Vec<String>,
}

/// Where Chromium is, if it is here: `PODWITNESS_CHROMIUM`, else on the PATH.
pub fn program() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("PODWITNESS_CHROMIUM") {
        return Some(path.into());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories: Vec<_> = std::env::split_paths(&path).collect();
    NAMES
        .iter()
        .find_map(|name| directories.iter().map(|directory| directory.join(name)).find(|file| file.exists()))
}

impl Browser {
    /// Opens a page.
    #[track_caller]
    pub fn open(program: &PathBuf, url: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("podwitness-browser-{}", unique()));
        fs::create_dir_all(&directory).expect("a directory for the browser");
        let pipes = ["input", "output"].map(|name| directory.join(name));
        let made = Command::new("mkfifo").args(&pipes).status().expect("mkfifo");
        assert!(made.success(), "mkfifo: {made}");
        // The browser reads what it is told from descriptor 3 and answers on 4; the shell opens both.
        let child = Command::new("sh")
            .args(["-c", "exec \"$0\" \"$@\" 3<\"$INPUT\" 4>\"$OUTPUT\""])
            .arg(program)
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--no-first-run",
            ])
            .args(["--remote-debugging-pipe", "--window-size=1280,1000"])
            .arg(format!("--user-data-dir={}", directory.join("profile").display()))
            .env("INPUT", &pipes[0])
            .env("OUTPUT", &pipes[1])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(directory.join("log")).expect("the log of the browser"))
            .spawn()
            .expect("the browser");
        let (input, output) = within(PATIENCE, "the browser opens its pipes", move || {
            let input = File::options().write(true).open(&pipes[0]).expect("the browser's input");
            (input, BufReader::new(File::open(&pipes[1]).expect("the browser's output")))
        });
        let (sender, messages) = sync_channel(WAITING);
        thread::spawn(move || {
            for message in output.split(0).map_while(Result::ok) {
                let message = serde_json::from_slice(&message).unwrap_or_default();
                if sender.send(message).is_err() {
                    break;
                }
            }
        });
        let mut browser = Self {
            child,
            directory,
            input,
            messages,
            session: String::new(),
            asked: 0,
            complaints: Vec::new(),
        };
        let page = browser.call("Target.createTarget", json!({"url": "about:blank"}));
        let target = page["targetId"].as_str().expect("a page").to_owned();
        let attached = browser.call("Target.attachToTarget", json!({"targetId": target, "flatten": true}));
        browser.session = attached["sessionId"].as_str().expect("a session").to_owned();
        browser.call("Runtime.enable", json!({}));
        browser.call("Log.enable", json!({}));
        browser.call("Page.enable", json!({}));
        browser.call("Page.navigate", json!({ "url": url }));
        browser.wait("document.readyState === 'complete'");
        browser
    }

    /// What a script gives.
    #[track_caller]
    pub fn evaluate(&mut self, script: &str) -> Value {
        let asked = json!({"expression": script, "returnByValue": true, "awaitPromise": true});
        let given = self.call("Runtime.evaluate", asked);
        assert!(given.get("exceptionDetails").is_none(), "{script}: {given:#}");
        given["result"]["value"].clone()
    }

    /// Waits until a script gives `true`.
    #[track_caller]
    pub fn wait(&mut self, script: &str) {
        wait_until(PATIENCE, script, || self.evaluate(script) == true);
    }

    /// Types into whatever has the focus, and hits a key after it.
    pub fn enter(&mut self, text: &str) {
        self.call("Input.insertText", json!({ "text": text }));
        for kind in ["keyDown", "keyUp"] {
            let key = json!({"type": kind, "key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r"});
            self.call("Input.dispatchKeyEvent", key);
        }
    }

    /// Hits the key of a button: Enter, or the space bar.
    pub fn press(&mut self, key: &str) {
        let (code, number, text) = if key == " " { ("Space", 32, " ") } else { (key, 13, "\r") };
        for kind in ["keyDown", "keyUp"] {
            let hit = json!({"type": kind, "key": key, "code": code, "windowsVirtualKeyCode": number, "text": text});
            self.call("Input.dispatchKeyEvent", hit);
        }
    }

    /// Hits a key.
    pub fn key(&mut self, key: &str) {
        for kind in ["keyDown", "keyUp"] {
            self.call("Input.dispatchKeyEvent", json!({"type": kind, "key": key, "text": key}));
        }
    }

    /// How large the page is shown.
    pub fn size(&mut self, width: u32, height: u32) {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.call("Emulation.setDeviceMetricsOverride", size);
    }

    /// A picture of the page, into a file.
    pub fn picture(&mut self, file: &std::path::Path, scheme: &str) {
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        self.call("Emulation.setEmulatedMedia", json!({ "features": features }));
        let shot = self.call("Page.captureScreenshot", json!({"format": "png"}));
        fs::write(file, decoded(shot["data"].as_str().expect("a picture"))).expect("the picture");
    }

    /// What went wrong in the page: exceptions, and what its policy forbade.
    pub fn complaints(&self) -> &[String] {
        &self.complaints
    }

    fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.asked += 1;
        let mut message = json!({"id": self.asked, "method": method, "params": parameters});
        if !self.session.is_empty() {
            message["sessionId"] = self.session.as_str().into();
        }
        write!(self.input, "{message}\0").expect("the browser listens");
        loop {
            let timeout: Duration = scaled(PATIENCE);
            let message = self.messages.recv_timeout(timeout).unwrap_or_else(|_| {
                let log = fs::read_to_string(self.directory.join("log")).unwrap_or_default();
                panic!("the browser doesn't answer {method}:\n{log}")
            });
            if message["id"] == self.asked {
                assert!(message.get("error").is_none(), "{method}: {message}");
                return message["result"].clone();
            }
            let level = &message["params"]["entry"]["level"];
            let source = &message["params"]["entry"]["source"];
            if message["method"] == "Runtime.exceptionThrown"
                || message["method"] == "Log.entryAdded" && level == "error" && source != "network"
            {
                self.complaints.push(message["params"].to_string());
            }
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Its helpers end when they find their connection to it closed.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// Base64, as the protocol has pictures.
fn decoded(text: &str) -> Vec<u8> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut count) = (0u32, 0);
    for digit in text.bytes().filter_map(|byte| DIGITS.iter().position(|digit| *digit == byte)) {
        (bits, count) = (bits << 6 | digit as u32, count + 6);
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    bytes
}
