//! How does the application start and stop? And what does its operator learn where it cannot start? One sentence: what was
//! tried, where, the system's reason, and what to do.

mod signals;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;
use std::{fs, path};

use figment::value::Dict;
use figment::value::magic::RelativePathBuf;
use figment::{Figment, Source};
use rocket::error::ErrorKind;
use rocket::fairing::{AdHoc, Fairing};
use rocket::fs::FileServer;
use rocket::{Build, Config, Rocket};
use tokio::net::TcpSocket;

use crate::crowdsec::{unreplaced_variables, where_set};
use signals::{end_in_time, stay_alive, stop};

/// Runs the application to its end. Status 0 after a stop that was asked for, 1 where the launch failed.
pub fn run(rocket: Rocket<Build>) -> ExitCode {
    // As `rocket::execute` does, which would read Rocket's own sources once more: there an empty variable is a bad value, and
    // at a bad value Rocket panics and prints it.
    let ended = config(rocket.figment()).and_then(|config| {
        let (workers, blocking, force) = (config.workers, config.max_blocking, config.shutdown.force);
        rocket::async_run(launch(rocket, config), workers, blocking, force, "rocket-worker-thread")
    });
    let status = if ended.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    for problem in ended.err().unwrap_or_default() {
        log::error!("{problem}");
        if log::max_level() == log::LevelFilter::Off {
            let _ = writeln!(io::stderr(), "{problem}");
        }
    }
    log::logger().flush();
    status
}

/// Serves the files of a folder. Where the folder is missing, Rocket's own `FileServer::from` panics; this says what to do.
pub fn files(base: &'static str, folder: &'static str) -> impl Fairing {
    AdHoc::try_on_ignite("files", move |rocket| async move {
        let Err(error) = fs::read_dir(folder) else { return Ok(rocket.mount(base, FileServer::from(folder))) };
        // In a wrong working directory the templates are missing too, and one sentence is enough.
        if crate::log::has_told_an_error() {
            return Err(rocket);
        }
        let at = path::absolute(folder).unwrap_or(folder.into());
        log::error!(
            "Cannot serve files from {}: {error}. Start the application in the folder that holds `{folder}` (systemd: WorkingDirectory=), or make that folder.",
            at.display()
        );
        Err(rocket)
    })
}

/// Rocket's configuration, or everything that is wrong with it. No value is shown: it may be a key in the wrong place.
fn config(figment: &Figment) -> Result<Config, Vec<String>> {
    // This fails as a whole where a file is no TOML.
    if let Err(errors) = figment.extract::<Dict>() {
        return Err(errors.into_iter().map(unreadable).collect());
    }
    // Rocket would only say that it cannot use a value with such a variable.
    let unreplaced = unreplaced_variables(figment);
    if !unreplaced.is_empty() {
        return Err(unreplaced.into_iter().map(|what| format!("Cannot start: {what}.")).collect());
    }
    let config = Config::try_from(figment);
    let folder = figment.extract_inner::<RelativePathBuf>("template_dir").err().filter(|error| !error.missing());
    let errors = config.as_ref().err().cloned().into_iter().chain(folder).flatten();
    let mut problems: Vec<String> = errors.map(|error| unusable(figment, error)).collect();
    if let Ok(config) = &config {
        for (key, number) in [("workers", config.workers), ("max_blocking", config.max_blocking)] {
            if !(1..=10_000).contains(&number) {
                problems.push(format!("`{key}` is {number}: write {}.", wanted(key)));
            }
        }
        problems.extend(cannot_listen(config));
    }
    config.ok().filter(|_| problems.is_empty()).ok_or(problems)
}

/// Says where a configuration file cannot be read, and shows nothing of what stands there.
fn unreadable(error: figment::Error) -> String {
    let Some(Source::File(file)) = error.metadata.as_ref().and_then(|metadata| metadata.source.as_ref()) else {
        return "The configuration cannot be read: one of its sources is malformed.".into();
    };
    let said = error.to_string();
    let place_in_toml = said.lines().next().and_then(|line| line.strip_prefix("TOML parse error at "));
    let problem = match (place_in_toml, fs::read(file)) {
        (Some(place), _) => format!(
            "at {place} it is no TOML that Rocket takes. Put text in quotes, key = \"…\", write each key and each table once, and keys beneath a table such as [default]"
        ),
        (None, Err(error)) => format!("{error}. Let this user read it, or name another file in ROCKET_CONFIG"),
        (None, Ok(bytes)) => {
            let lines = bytes.utf8_chunks().next().map_or("", |text| text.valid()).split('\n');
            let (before, last) = lines.enumerate().last().unwrap_or_default();
            let (line, column) = (before + 1, last.chars().count() + 1);
            format!("at line {line}, column {column} it is not UTF-8. Save it as UTF-8")
        }
    };
    format!("{} cannot be read: {problem}.", file.display())
}

/// Says which key of Rocket's has a value that Rocket cannot use.
fn unusable(figment: &Figment, error: figment::Error) -> String {
    // For paths, Figment puts a name of its own before the key.
    let path: Vec<String> = error.path.into_iter().filter(|key| !key.starts_with("___")).collect();
    let (key, wanted) = (path.join("."), wanted(path.first().map_or("", String::as_str)));
    format!("`{key}`{} has a value that Rocket cannot use: write {wanted}.", where_set(figment, &key))
}

/// What a key of Rocket's takes.
fn wanted(key: &str) -> &'static str {
    match key {
        "address" => "an IP address, \"127.0.0.1\", or \"0.0.0.0\" for all that this machine has",
        "port" => "a number from 0 to 65535",
        "workers" | "max_blocking" => "a number from 1 to 10000",
        "keep_alive" => "whole seconds from 0",
        "secret_key" => "the 44 letters that `openssl rand -base64 32` prints, in Rocket.toml within quotes",
        "log_level" => "\"off\", \"critical\", \"normal\" or \"debug\"",
        "cli_colors" => "true or false",
        "ip_header" => "false: the bouncer finds the visitor's address itself",
        "ident" => "quoted text, or false",
        "temp_dir" | "template_dir" => "the path of a folder, in quotes",
        "limits" => "a table of sizes, { form = \"64 KiB\" }",
        "shutdown" => "a table of whole seconds and words, { grace = 2, mercy = 3, signals = [\"term\"] }",
        _ => "what https://rocket.rs/guide/v0.5/configuration/ says of it",
    }
}

/// Tries the port before anything else is done. If the application was started twice by mistake, the second process would
/// otherwise take from LAPI, with the same key, the changes that the first one waits for. The socket does not listen, so that
/// nobody connects.
fn cannot_listen(config: &Config) -> Option<String> {
    let tried = || {
        let socket = if config.address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_reuseaddr(true)?;
        socket.bind(SocketAddr::new(config.address, config.port))
    };
    tried().err().map(|error| not_bound(config, &error))
}

fn not_bound(config: &Config, error: &io::Error) -> String {
    let (at, port) = (SocketAddr::new(config.address, config.port), config.port);
    let remedy = match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "Another program listens there, perhaps this one: `ss -ltnp 'sport = :{port}'` shows which. End it, or choose another port with ROCKET_PORT."
        ),
        io::ErrorKind::PermissionDenied => "Ports below 1024 are for the system: choose a higher one with ROCKET_PORT, or allow this one (systemd: AmbientCapabilities=CAP_NET_BIND_SERVICE).".into(),
        io::ErrorKind::AddrNotAvailable => {
            "This machine has no such address: set ROCKET_ADDRESS to one that `ip address` shows, or to 0.0.0.0 for all.".into()
        }
        _ => "Check ROCKET_ADDRESS and ROCKET_PORT.".into(),
    };
    format!("Cannot listen on {at}: {error}. {remedy}")
}

async fn launch(rocket: Rocket<Build>, config: Config) -> Result<(), Vec<String>> {
    let no_signals = |error| vec![format!("Signals cannot be listened for: {error}.")];
    let stop = stop().map_err(no_signals)?;
    stay_alive().map_err(no_signals)?;
    let ignited = tokio::select! {
        ignited = rocket.ignite() => ignited,
        // The launch may wait for LAPI.
        () = stop.clone() => return Ok(()),
    };
    let rocket = ignited.map_err(|error| reason(&error))?;
    let shutdown = rocket.shutdown();
    tokio::spawn(end_in_time(shutdown.clone(), config.clone()));
    tokio::spawn(async move {
        stop.await;
        // As soon as Rocket serves, it listens for signals itself, and is quicker. This is for a signal just before.
        tokio::time::sleep(Duration::from_millis(100)).await;
        shutdown.notify();
    });
    match rocket.launch().await.as_ref().map_err(rocket::Error::kind) {
        Ok(_) => Ok(()),
        Err(ErrorKind::Shutdown(_, None)) => {
            log::warn!("Requests that were still under way when the time for a stop was over were cut off.");
            Ok(())
        }
        Err(ErrorKind::Shutdown(_, Some(error))) => Err(vec![format!("The server failed: {error}.")]),
        Err(ErrorKind::Bind(error)) => Err(vec![not_bound(&config, error)]),
        Err(kind) => Err(vec![format!("The launch failed: {kind}.")]),
    }
}

/// Why Rocket could not ignite; nothing where that has been told already.
fn reason(error: &rocket::Error) -> Vec<String> {
    match error.kind() {
        ErrorKind::FailedFairings(_) | ErrorKind::SentinelAborts(_) if crate::log::has_told_an_error() => Vec::new(),
        // Rocket would show the value.
        ErrorKind::Config(_) => vec!["The launch failed: a fairing made the configuration unusable.".into()],
        _ => {
            error.pretty_print();
            let said = crate::log::rockets_error();
            let remedy = match &*said {
                "" => "Set ROCKET_LOG_LEVEL=normal to learn more.",
                // Tera names the file and the line.
                said if said.contains("Tera") => {
                    ". Mend that template. Then look at it: the debug profile shows the bouncer's pages at /crowdsec/preview/ban."
                }
                _ => "",
            };
            vec![format!("The launch failed. {said}{remedy}")]
        }
    }
}
