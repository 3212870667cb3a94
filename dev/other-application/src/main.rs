//! A shop: everything below /shop, with settings, templates and catchers of its own.

#[macro_use]
extern crate rocket;

#[cfg(test)]
mod tests;

use rocket::fairing::AdHoc;
use rocket::figment::providers::{Env, Format, Toml};
use rocket::figment::{Figment, Profile};
use rocket::form::Form;
use rocket::http::{CookieJar, Status};
use rocket::response::Redirect;
use rocket::{Build, Config, Request, Rocket, State};
use rocket_dyn_templates::{context, Engines, Template};

#[launch]
fn launch() -> _ {
    shop(settings())
}

/// shop.toml, and the variables `SHOP_*` over it.
fn settings() -> Figment {
    Figment::from(Config::default())
        .merge(Toml::file(Env::var_or("SHOP_CONFIG", "shop.toml")).nested())
        .merge(Env::prefixed("SHOP_").ignore(&["PROFILE", "CONFIG"]).global())
        .select(Profile::from_env_or("SHOP_PROFILE", Config::DEFAULT_PROFILE))
}

fn shop(settings: Figment) -> Rocket<Build> {
    rocket::custom(settings)
        .attach(Template::custom(filters))
        .attach(AdHoc::config::<Shop>())
        .mount("/shop", routes![index, cart, order])
        .register("/", catchers![any_error])
        .register("/shop", catchers![not_sold])
}

#[derive(rocket::serde::Deserialize)]
#[serde(crate = "rocket::serde")]
struct Shop {
    currency: String,
}

fn filters(engines: &mut Engines) {
    engines.tera.register_filter("loud", |text: &Value, _: &Arguments| {
        Ok(text.as_str().unwrap_or_default().to_uppercase().into())
    });
}

type Value = rocket_dyn_templates::tera::Value;
type Arguments = std::collections::HashMap<String, Value>;

#[get("/")]
fn index(shop: &State<Shop>) -> Template {
    Template::render("index", context! { currency: &shop.currency, articles: ["bread", "cake"] })
}

#[get("/cart")]
fn cart(cookies: &CookieJar<'_>) -> Template {
    let article = cookies.get_private("cart").map(|cookie| cookie.value().to_owned());
    Template::render("cart", context! { article })
}

#[derive(FromForm)]
struct Order<'r> {
    article: &'r str,
    coupon: Option<&'r str>,
}

#[post("/cart", data = "<form>")]
fn order(form: Form<Order<'_>>, cookies: &CookieJar<'_>) -> Result<Redirect, Status> {
    if form.coupon.is_some_and(|coupon| coupon != "BREAD") {
        return Err(Status::UnprocessableEntity);
    }
    cookies.add_private(("cart", form.article.to_owned()));
    Ok(Redirect::to(uri!("/shop", cart)))
}

#[catch(404)]
fn not_sold() -> Template {
    Template::render("error", context! { title: "We do not sell that." })
}

#[catch(default)]
fn any_error(status: Status, _: &Request<'_>) -> Template {
    Template::render("error", context! { title: status.reason_lossy() })
}
