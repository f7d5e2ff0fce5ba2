//! A browser without scripts, for what a page would not send.

use axum::http::Request;
use http_body_util::Full;

use super::Site;
use crate::support::client::{Answer, Http};

/// A browser without scripts: keeps its cookie.
pub struct Client<'s> {
    site: &'s Site,
    http: Http,
    pub cookie: String,
}

impl<'s> Client<'s> {
    /// Without a session.
    pub fn new(site: &'s Site) -> Self {
        Self { site, http: Http::new(), cookie: String::new() }
    }

    /// Gets a path.
    pub async fn get(&self, path: &str) -> Answer {
        self.http.get(&self.site.url(path), &[("cookie", &self.cookie)]).await
    }

    /// Posts a form.
    pub async fn post(&self, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let request = Request::post(self.site.url(path))
            .header("cookie", &self.cookie)
            .header("content-type", "application/x-www-form-urlencoded");
        let request =
            headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        self.http.send(request.body(Full::from(body.to_owned())).unwrap()).await
    }

    /// Keeps the cookie of an answer.
    pub fn keep(&mut self, answer: &Answer) {
        let cookie = answer.headers["set-cookie"].to_str().unwrap();
        self.cookie = cookie.split(';').next().unwrap().to_owned();
    }

    /// Logs in with a token.
    pub async fn log_in(&mut self, role: &str) -> Answer {
        let form = self.get("/dashboard/login").await;
        self.keep(&form);
        let body = format!("form_token={}&token={}", form_token(&form), self.site.token(role));
        let answer = self.post("/dashboard/login", &[], &body).await;
        self.keep(&answer);
        answer
    }
}

/// The token of the first form of a page.
pub fn form_token(answer: &Answer) -> String {
    let text = answer.text();
    let (_, rest) = text.split_once("name=\"form_token\" value=\"").unwrap();
    rest.split_once('"').unwrap().0.to_owned()
}
