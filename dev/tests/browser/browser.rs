//! Who looks at the pages? Chromium without a window, which a test drives by way of chromedriver.

use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};
use std::{env, fs, process};

use dev::{PATIENCE, eventually};
use serde_json::{Value, json};
use thirtyfour::prelude::*;
use thirtyfour::{ChromiumLikeCapabilities, LoggingPrefsLogLevel, WindowHandle};
use tokio::runtime::{Builder, Runtime};

use crate::chromedriver::{Seat, chromedriver};

/// A running browser with a new profile; it ends with the test.
///
/// Each method waits until the browser has done what it was told, so that tests read like all the others.
pub struct Browser {
    runtime: Runtime,
    driver: Option<WebDriver>,
    chromedriver: Child,
    profile: PathBuf,
    _seat: Seat,
}

impl Browser {
    /// One whose visitor wants little motion, so that a captcha of ours waits for its button.
    pub fn start() -> Self {
        Self::with(&[], json!({}))
    }

    /// One as most visitors have it, in which a captcha of ours starts by itself.
    pub fn that_moves() -> Self {
        Self::launch(&[], json!({}))
    }

    /// One that is as large as a phone, and is used with a finger.
    pub fn phone() -> Self {
        let browser = Self::start();
        browser.resize(390, 844);
        browser.devtools("Emulation.setTouchEmulationEnabled", json!({ "enabled": true }));
        browser
    }

    /// One whose visitor prefers these languages.
    pub fn speaking(languages: &str) -> Self {
        Self::with(&[], json!({ "intl.accept_languages": languages }))
    }

    pub fn without_cookies() -> Self {
        Self::with(&[], json!({ "profile.default_content_setting_values.cookies": 2 }))
    }

    pub fn without_javascript() -> Self {
        Self::with(&[], json!({ "profile.managed_default_content_settings.javascript": 2 }))
    }

    /// One that finds the host of this name on this machine.
    pub fn knowing(host: &str) -> Self {
        Self::with(&[&format!("--host-resolver-rules=MAP {host} 127.0.0.1")], json!({}))
    }

    /// One that finds some names on this machine, `shop.example` among them, and believes any certificate.
    pub fn at_a_shop() -> Self {
        let names = ["shop.example", "*.shop.example", "evil.example"].map(|name| format!("MAP {name} 127.0.0.1"));
        let rules = format!("--host-resolver-rules={}", names.join(", "));
        Self::with(&[&rules, "--ignore-certificate-errors"], json!({}))
    }

    fn with(arguments: &[&str], preferences: Value) -> Self {
        Self::launch(&[arguments, &["--force-prefers-reduced-motion"]].concat(), preferences)
    }

    fn launch(arguments: &[&str], preferences: Value) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let seat = Seat::take();
        let profile =
            env::temp_dir().join(format!("chromium-{}-{}", process::id(), COUNT.fetch_add(1, Ordering::SeqCst)));
        let (chromedriver, port) = chromedriver();
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let mut wishes = DesiredCapabilities::chrome();
        // Chromium's sandbox does not work in containers or as root, and the tests open only our own pages. Most other
        // arguments keep Chromium from talking to anybody but us.
        for argument in [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-quic",
            "--no-first-run",
            "--no-proxy-server",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--window-size=1280,900",
            &format!("--user-data-dir={}", profile.display()),
        ]
        .iter()
        .chain(arguments)
        {
            wishes.add_arg(argument).expect("an argument");
        }
        wishes.add_experimental_option("prefs", preferences).expect("preferences");
        wishes.set_browser_log_level(LoggingPrefsLogLevel::All).expect("a log level");
        let address = format!("http://127.0.0.1:{port}");
        let mut browser = Self { runtime, driver: None, chromedriver, profile, _seat: seat };
        browser.driver = Some(browser.runtime.block_on(WebDriver::new(address, wishes)).expect("starting Chromium"));
        browser
    }

    fn driver(&self) -> &WebDriver {
        self.driver.as_ref().expect("it runs until it is dropped")
    }

    #[track_caller]
    fn wait<T>(&self, what: impl Future<Output = WebDriverResult<T>>) -> T {
        self.runtime.block_on(what).unwrap_or_else(|e| panic!("the browser cannot: {e}"))
    }

    // --- going somewhere ---

    #[track_caller]
    pub fn open(&self, url: &str) {
        self.wait(self.driver().goto(url));
    }

    #[track_caller]
    pub fn back(&self) {
        self.wait(self.driver().back());
    }

    #[track_caller]
    pub fn reload(&self) {
        self.wait(self.driver().refresh());
    }

    /// Clicks what this CSS selector finds, once it is there to be clicked.
    #[track_caller]
    pub fn click(&self, selector: &str) {
        eventually(&format!("{selector} can be clicked"), || {
            self.runtime.block_on(async { self.driver().find(By::Css(selector)).await?.click().await }).is_ok()
        });
    }

    /// Types into whatever has the focus.
    #[track_caller]
    pub fn press(&self, key: Key) {
        self.wait(self.driver().action_chain().send_keys(key).perform());
    }

    /// Opens a tab, and looks at it.
    #[track_caller]
    pub fn new_tab(&self) -> WindowHandle {
        let tab = self.wait(self.driver().new_tab());
        self.look_at(&tab);
        tab
    }

    #[track_caller]
    pub fn tab(&self) -> WindowHandle {
        self.wait(self.driver().window())
    }

    #[track_caller]
    pub fn look_at(&self, tab: &WindowHandle) {
        self.wait(self.driver().switch_to_window(tab.clone()));
    }

    /// Goes into the frame that this CSS selector finds; clicks are inside it until [`Browser::leave_frame`].
    #[track_caller]
    pub fn enter_frame(&self, selector: &str) {
        self.wait(async { self.driver().find(By::Css(selector)).await?.enter_frame().await });
    }

    #[track_caller]
    pub fn leave_frame(&self) {
        self.wait(self.driver().enter_default_frame());
    }

    /// Forgets every cookie of the current page's host.
    #[track_caller]
    pub fn forget_cookies(&self) {
        self.wait(self.driver().delete_all_cookies());
    }

    // --- what is seen ---

    #[track_caller]
    pub fn url(&self) -> String {
        self.wait(self.driver().current_url()).to_string()
    }

    /// Writes into the field that this CSS selector finds.
    #[track_caller]
    pub fn write(&self, selector: &str, text: &str) {
        self.wait(async { self.driver().find(By::Css(selector)).await?.send_keys(text).await });
    }

    #[track_caller]
    pub fn title(&self) -> String {
        self.wait(self.driver().title())
    }

    /// The text that is visible on the page; empty while one page gives way to the next.
    pub fn text(&self) -> String {
        let text = async { self.driver().find(By::Css("body")).await?.text().await };
        self.runtime.block_on(text).unwrap_or_default()
    }

    /// An attribute of what this CSS selector finds.
    #[track_caller]
    pub fn attribute(&self, selector: &str, name: &str) -> Option<String> {
        self.wait(async { self.driver().find(By::Css(selector)).await?.attr(name.to_owned()).await })
    }

    /// Waits until this text is visible.
    #[track_caller]
    pub fn shows(&self, text: &str) {
        let end = Instant::now() + PATIENCE;
        loop {
            let seen = self.text();
            if seen.contains(text) {
                return;
            }
            assert!(Instant::now() < end, "{text:?} does not appear at {}:\n{seen}", self.url());
            sleep(Duration::from_millis(50));
        }
    }

    /// Waits until the browser has arrived at this address.
    #[track_caller]
    pub fn arrives_at(&self, url: &str) {
        let end = Instant::now() + PATIENCE;
        while self.url() != url {
            assert!(Instant::now() < end, "{} instead of {url}:\n{}", self.url(), self.text());
            sleep(Duration::from_millis(50));
        }
    }

    /// What the page has written to the console since the last call: scripts that failed, and what the content security
    /// policy forbade. Leaves out answers with an error status, because refusals have one.
    #[track_caller]
    pub fn complaints(&self) -> Vec<String> {
        let log = self.wait(self.driver().browser_log());
        log.into_iter()
            .map(|entry| entry.message)
            .filter(|message| !message.contains("the server responded with a status of"))
            .collect()
    }

    // --- beyond what a visitor can do ---

    /// Runs a script in the page, as an attacker or a debugger would, and gives what it returns.
    #[track_caller]
    pub fn run(&self, script: &str) -> Value {
        self.wait(self.driver().execute(script, vec![])).json().clone()
    }

    /// Runs a script whose last argument is a function to be called with the result.
    #[track_caller]
    pub fn run_async(&self, script: &str) -> Value {
        self.wait(self.driver().execute_async(script, vec![])).json().clone()
    }

    /// A command of the Chrome DevTools Protocol.
    #[track_caller]
    pub fn devtools(&self, method: &str, parameters: Value) -> Value {
        self.wait(self.driver().cdp().send_raw(method, parameters))
    }

    /// Gives the page this size, also a size that no window can have.
    #[track_caller]
    pub fn resize(&self, width: u32, height: u32) {
        let phone = width < 600;
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone });
        self.devtools("Emulation.setDeviceMetricsOverride", size);
    }

    /// Writes what is visible into a PNG file.
    #[track_caller]
    pub fn photograph(&self, file: &Path) {
        self.wait(self.driver().screenshot(file));
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if let Some(driver) = self.driver.take() {
            let _ = self.runtime.block_on(driver.quit());
        }
        let _ = self.chromedriver.kill();
        let _ = self.chromedriver.wait();
        let _ = fs::remove_dir_all(&self.profile);
    }
}
