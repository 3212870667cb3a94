use std::process::ExitCode;

/// Ends with a line and a status of its own where the launch fails: Rocket's `#[launch]` would panic, and returning its
/// error would print the whole configuration, keys included.
#[rocket::main]
async fn main() -> ExitCode {
    match app::rocket().launch().await {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            error.pretty_print();
            ExitCode::FAILURE
        }
    }
}
