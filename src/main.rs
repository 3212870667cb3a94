use std::process::ExitCode;

/// Rocket's own `#[launch]` panics where the launch fails, and shows values of the configuration. `launch::run` says in one
/// sentence what is wrong and what to do.
fn main() -> ExitCode {
    app::launch::run(app::rocket())
}
