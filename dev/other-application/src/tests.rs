use rocket::http::{ContentType, Status};
use rocket::local::blocking::Client;

use super::*;

fn visitor() -> Client {
    Client::tracked(shop(settings())).expect("a launch")
}

fn page(client: &Client, path: &'static str) -> String {
    client.get(path).dispatch().into_string().expect("a page")
}

#[test]
fn pages_have_what_the_settings_and_the_filters_give() {
    let index = page(&visitor(), "/shop");
    assert!(index.contains("BREAD") && index.contains("EUR"), "{index}");
}

#[test]
fn an_order_is_remembered() {
    let client = visitor();
    let order = client.post("/shop/cart").header(ContentType::Form).body("article=cake&coupon=BREAD").dispatch();
    assert_eq!((order.status(), order.headers().get_one("Location")), (Status::SeeOther, Some("/shop/cart")));
    assert!(page(&client, "/shop/cart").contains("CAKE"));
    let order = client.post("/shop/cart").header(ContentType::Form).body("article=cake&coupon=CAKE").dispatch();
    assert_eq!(order.status(), Status::UnprocessableEntity);
}

#[test]
fn errors_have_pages_of_the_shops_own() {
    let client = visitor();
    assert!(page(&client, "/shop/stones").contains("We do not sell that."));
    assert!(page(&client, "/stones").contains("Not Found"));
}
