//! `draftpick lab`: a page to play with, served to this machine only.
//!
//! The page draws; everything it shows is computed here, by the library.

mod draws;
mod examples;
mod pair;
mod paths;
mod problem;

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::Context;
use axum::Router;
use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::Verdict;

#[derive(clap::Args)]
pub struct Args {
    /// The port to serve the page at; 0 takes a free one
    #[arg(long, value_name = "PORT", default_value_t = 7878)]
    port: u16,
}

/// The largest vocabulary that the page takes: bars that can still be told apart.
const MAX_TOKENS: usize = 32;
/// The most drafts.
const MAX_DRAFTS: usize = 8;

pub fn run(args: &Args) -> anyhow::Result<Verdict> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_io().build().context("cannot start the server")?;
    runtime.block_on(async {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, args.port));
        let listener = tokio::net::TcpListener::bind(address)
            .await
            .with_context(|| format!("cannot listen at {address}; another --port, or 0 for a free one"))?;
        let address = listener.local_addr().context("the server has no address")?;
        crate::output::print(&format!("http://{address}/  (Ctrl-C ends it)\n"))?;
        axum::serve(listener, router()).await.context("the server failed")
    })?;
    Ok(Verdict::Passed)
}

/// Why a text is refused by a program without the pair.
#[cfg(not(feature = "candle"))]
const NO_PAIR: &str = "the pair of models is not part of this program: build it with --features lab,candle";

fn router() -> Router {
    Router::new()
        .route("/", get(|| async { text("text/html; charset=utf-8", include_str!("page/index.html")) }))
        .route("/paths", get(|| async { text("text/html; charset=utf-8", include_str!("page/paths.html")) }))
        .route("/lab.css", get(|| async { text("text/css; charset=utf-8", include_str!("page/lab.css")) }))
        .route("/lab.js", get(|| async { script(include_str!("page/lab.js")) }))
        .route("/paths.js", get(|| async { script(include_str!("page/paths.js")) }))
        .route("/page.js", get(|| async { script(include_str!("page/page.js")) }))
        .route("/svg.js", get(|| async { script(include_str!("page/svg.js")) }))
        .route("/draw.js", get(|| async { script(include_str!("page/draw.js")) }))
        .route("/tree.js", get(|| async { script(include_str!("page/tree.js")) }))
        .route("/api/problem", get(problem::answer))
        .route("/api/rules", get(problem::rules))
        .route("/api/draws", get(draws::answer))
        .route("/api/trace", get(examples::trace))
        .route("/api/text", get(examples::text))
        .merge(paths::routes())
        .layer(middleware::from_fn(only_here))
}

fn script(body: &'static str) -> impl IntoResponse {
    text("text/javascript; charset=utf-8", body)
}

fn text(kind: &'static str, body: &'static str) -> impl IntoResponse {
    // Nothing from elsewhere is loaded, whatever the page says.
    let policy = "default-src 'self'; img-src 'self' data: blob:; style-src 'self' 'unsafe-inline'";
    ([(header::CONTENT_TYPE, kind), (header::CONTENT_SECURITY_POLICY, policy)], body)
}

/// Refuses requests that name another host: a page from elsewhere whose name was made to lead here.
async fn only_here(request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("");
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    if name == "127.0.0.1" || name == "localhost" {
        next.run(request).await
    } else {
        (StatusCode::FORBIDDEN, "this page is for the machine it runs on\n").into_response()
    }
}

/// A request that was refused, and why: shown on the page.
struct Refused(anyhow::Error);

impl<E: Into<anyhow::Error>> From<E> for Refused {
    fn from(error: E) -> Self {
        Refused(error.into())
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (StatusCode::BAD_REQUEST, format!("{:#}", self.0)).into_response()
    }
}
