//! The page of the admin port in Chromium, which is asked by its DevTools protocol.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use danelaw::watch::WatchProgress;
use flate2::read::ZlibDecoder;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::admin::{get, self_test};
use crate::lab::Scenario;
use crate::lab::exchange::Exchange;
use crate::lab::mx::say;

/// A Chromium without a window, and one page in it.
struct Browser {
    chromium: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    session: String,
    questions: u64,
    events: Vec<Value>,
    _profile: TempDir,
}

impl Browser {
    fn start() -> Self {
        let profile = TempDir::new().unwrap();
        // It reads commands from the descriptor 3 and writes answers to 4. As root it has no sandbox.
        let script = r#"exec chromium --headless --no-sandbox --disable-gpu --disable-dev-shm-usage --disable-extensions \
            --disable-background-networking --no-first-run --remote-debugging-pipe --user-data-dir="$0" about:blank \
            3<&0 4>&1 </dev/null >/dev/null 2>"$0/log""#;
        let mut command = Command::new("sh");
        command.args(["-c", script]).arg(profile.path()).env("HOME", profile.path());
        let mut chromium =
            command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("chromium starts");
        let (to, from) = (chromium.stdin.take().unwrap(), BufReader::new(chromium.stdout.take().unwrap()));
        let session = String::new();
        let mut browser = Self { chromium, to, from, session, questions: 0, events: Vec::new(), _profile: profile };
        let target = browser.ask("Target.createTarget", json!({ "url": "about:blank" }));
        let attached = browser.ask("Target.attachToTarget", json!({ "targetId": target["targetId"], "flatten": true }));
        browser.session = attached["sessionId"].as_str().unwrap().to_owned();
        for domain in ["Page", "Runtime", "Log", "Network"] {
            browser.ask(&format!("{domain}.enable"), json!({}));
        }
        browser.ask("Emulation.setFocusEmulationEnabled", json!({ "enabled": true }));
        browser
    }

    fn hear(&mut self) -> Value {
        let mut message = Vec::new();
        self.from.read_until(0, &mut message).unwrap();
        assert_eq!(message.pop(), Some(0), "chromium has ended: is the package installed?");
        serde_json::from_slice(&message).unwrap()
    }

    /// Puts a command, and returns its result. The events of the meantime are kept.
    fn ask(&mut self, method: &str, parameters: Value) -> Value {
        self.questions += 1;
        let mut message = json!({ "id": self.questions, "method": method, "params": parameters });
        if !self.session.is_empty() {
            message["sessionId"] = json!(self.session);
        }
        self.to.write_all(format!("{message}\0").as_bytes()).unwrap();
        loop {
            let heard = self.hear();
            if heard["id"] != self.questions {
                self.events.push(heard);
                continue;
            }
            assert!(heard.get("error").is_none(), "{method}: {heard}");
            return heard["result"].clone();
        }
    }

    /// The value of an expression in the page.
    fn value(&mut self, expression: &str) -> Value {
        let result = self.ask("Runtime.evaluate", json!({ "expression": expression, "returnByValue": true }));
        assert!(result.get("exceptionDetails").is_none(), "{expression}: {result}");
        result["result"]["value"].clone()
    }

    fn width(&mut self, width: u32) {
        let size = json!({ "width": width, "height": 800, "deviceScaleFactor": 1, "mobile": false });
        self.ask("Emulation.setDeviceMetricsOverride", size);
    }

    fn scheme(&mut self, scheme: &str) {
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.ask("Emulation.setEmulatedMedia", json!({ "features": features }));
    }

    /// Goes to an address, and returns the addresses that were fetched for it, once all is loaded.
    fn open(&mut self, address: &str) -> BTreeSet<String> {
        self.events.clear();
        let opened = self.ask("Page.navigate", json!({ "url": address }));
        assert!(opened.get("errorText").is_none(), "{opened}");
        let is_loaded = |event: &Value| event["method"] == "Page.loadEventFired";
        while !self.events.iter().any(is_loaded) {
            let heard = self.hear();
            self.events.push(heard);
        }
        let complaint = ["Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown"];
        let complaints: Vec<_> =
            self.events.iter().filter(|event| complaint.iter().any(|c| event["method"] == *c)).collect();
        assert!(complaints.is_empty(), "{address}: {complaints:?}");
        let asked = self.events.iter().filter(|event| event["method"] == "Network.requestWillBeSent");
        asked.map(|event| event["params"]["request"]["url"].as_str().unwrap().to_owned()).collect()
    }

    /// Presses the tabulator.
    fn tab(&mut self) {
        for kind in ["rawKeyDown", "keyUp"] {
            self.ask("Input.dispatchKeyEvent", json!({ "type": kind, "key": "Tab", "windowsVirtualKeyCode": 9 }));
        }
    }

    fn screenshot(&mut self) -> Screenshot {
        let taken = self.ask("Page.captureScreenshot", json!({ "format": "png" }));
        Screenshot::of(&STANDARD.decode(taken["data"].as_str().unwrap()).unwrap())
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It ends when its end of the pipe is closed. A process that stays would be one of its group.
        let _ = self.to.write_all(b"{\"id\":0,\"method\":\"Browser.close\"}\0");
        let since = Instant::now();
        while self.chromium.try_wait().is_ok_and(|ended| ended.is_none()) && since.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = Command::new("kill")
            .args(["-KILL", "--", &format!("-{}", self.chromium.id())])
            .stderr(Stdio::null())
            .status();
        let _ = self.chromium.wait();
    }
}

/// A picture of the page.
struct Screenshot {
    /// The colour at the upper left, which is the page's background.
    corner: [u8; 3],
    /// The lines of pixels in which there is more than one colour.
    lines: usize,
}

impl Screenshot {
    /// Reads a PNG of 8-bit RGB or RGBA.
    fn of(png: &[u8]) -> Self {
        let number = |at: usize| u32::from_be_bytes(png[at..at + 4].try_into().unwrap()) as usize;
        let (width, depth) = (number(16), if png[25] == 6 { 4 } else { 3 });
        assert!(png[24] == 8 && matches!(png[25], 2 | 6), "{:?}", &png[24..26]);
        let (mut packed, mut at) = (Vec::new(), 8);
        while at < png.len() {
            let (length, kind) = (number(at), &png[at + 4..at + 8]);
            if kind == b"IDAT" {
                packed.extend_from_slice(&png[at + 8..at + 8 + length]);
            }
            at += length + 12;
        }
        let mut octets = Vec::new();
        ZlibDecoder::new(packed.as_slice()).read_to_end(&mut octets).unwrap();
        // Of the first pixel no filter changes anything. A line of one colour has, behind its first pixel, zeros under each filter but
        // "none", under which all its pixels are equal.
        let has_more = |line: &&[u8]| {
            let (first, rest) = line[1..].split_at(depth);
            rest.chunks(depth).any(|pixel| pixel != first) && rest.iter().any(|octet| *octet != 0)
        };
        let lines = octets.chunks(width * depth + 1).filter(has_more).count();
        Self { corner: octets[1..4].try_into().unwrap(), lines }
    }
}

/// Looks at one page in each way.
fn looks_right(browser: &mut Browser, origin: &str, path: &str) {
    let address = format!("{origin}{path}");
    browser.scheme("light");
    browser.width(900);
    // Y5: nothing else is fetched, and the browser has no objection, such as one of the content security policy.
    let fetched = browser.open(&address);
    assert_eq!(fetched, BTreeSet::from([address.clone(), format!("{origin}/style.css")]));
    let light = browser.screenshot();
    // The links at the head alone are 15, and each line of text is as many.
    assert!(light.lines > 40, "{path} is empty: {} lines", light.lines);
    browser.scheme("dark");
    let dark = browser.screenshot();
    let sum = |colour: [u8; 3]| colour.iter().map(|part| u32::from(*part)).sum::<u32>();
    assert!(sum(light.corner) > 600 && sum(dark.corner) < 150, "{path}: {:?} {:?}", light.corner, dark.corner);
    // Y12: a telephone.
    browser.width(360);
    let wide = browser.value("document.documentElement.scrollWidth");
    assert!(wide.as_u64().unwrap() <= 360, "{path} is {wide} pixels wide");
    reachable_by_keyboard(browser, path);
}

/// Y12: the tabulator goes to every link in its order, and each shows that it has the focus.
fn reachable_by_keyboard(browser: &mut Browser, path: &str) {
    let links = browser.value("document.links.length").as_u64().unwrap();
    assert!(links >= 4, "{path}: {links}");
    let focus = "(() => {
        const focused = document.activeElement, style = getComputedStyle(focused);
        const drawn = style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) > 0;
        return [[...document.links].indexOf(focused), drawn, focused.outerHTML];
    })()";
    let mut reached = Vec::new();
    // Tables that scroll are stops too.
    while reached.last() != Some(&(links - 1)) {
        browser.tab();
        let focused = browser.value(focus);
        assert_eq!(focused[1], true, "{path}: no outline at {focused}");
        reached.extend(focused[0].as_u64());
        assert!(reached.len() as u64 <= links, "{path}: {reached:?}");
    }
    assert_eq!(reached, (0..links).collect::<Vec<_>>(), "{path}");
}

/// Y5, Y12: all pages, with mail that was delivered, deferred and rejected, and with names and texts as long as they come.
#[tokio::test(flavor = "multi_thread")]
async fn y5_y12_every_page_is_right_in_a_browser() {
    let long = format!("{}.{}.test", "a".repeat(63), "b".repeat(63));
    let words = format!("550 5.7.1 <script>alert(1)</script> {}", "x".repeat(300));
    let mut lab = Scenario::new()
        .mx(|mx| mx.rcpt = vec![say("250 ok"), say(&words)])
        .tree(|tree, _| tree.insecure("other.test").insecure(&long))
        .exchange(Exchange::new("other.test", "mx1.other.test").tlsa([]).script(|mx| mx.ehlo = say("250 mx")))
        .start()
        .await;
    let toml = format!("watch = {{ every = '24h', own = ['example.test', '{long}', 'other.test', 'never.test'] }}");
    let watch = std::sync::Arc::new(lab.watching(&toml, None));
    lab.watch = Some(std::sync::Arc::clone(&watch));
    let admin = lab.admin().await;
    self_test(&lab).await;
    for recipient in ["b@example.test", "c@example.test", "b@other.test", &format!("b@{long}")] {
        lab.client().await.send(&[recipient], crate::lab::MESSAGE).await;
    }
    watch.minute(&mut WatchProgress::default()).await;
    assert!(watch.view().findings.len() > 1 && !watch.view().unknown.is_empty(), "{:?}", watch.view());
    let (_, attempts) = get(&admin, "/explain/").await;
    let ids: Vec<_> = attempts.lines().map(|line| line.split(' ').next().unwrap().to_owned()).collect();
    assert!(!ids.is_empty(), "{attempts}");
    let paths =
        ["/", "/domains", "/domains?state=all", "/domains/example.test", "/refusals", "/explain/", "/watch", "/tlsrpt"];
    let mut paths: Vec<_> = paths.map(str::to_owned).into();
    paths.extend([format!("/domains/{long}"), "/domains/never.test".to_owned(), "/explain/0123456789AB".to_owned()]);
    paths.extend(ids.iter().map(|id| format!("/explain/{id}")));
    let origin = format!("http://{admin}");
    tokio::task::spawn_blocking(move || {
        let mut browser = Browser::start();
        assert_eq!(browser.screenshot().lines, 0, "an empty page is told from others");
        for path in paths {
            looks_right(&mut browser, &origin, &path);
        }
    })
    .await
    .unwrap();
}
