//! A page and a WebSocket on one port, on hyper.
//!
//!     cargo run --release --bin hyper_server -- --listen 127.0.0.1:9001
//!
//! Then open http://127.0.0.1:9001/ in a browser. It shows how a service tells the requests apart, and that the same
//! lines serve WebSockets over HTTP/1.1 and, by extended CONNECT, over HTTP/2.

use std::{convert::Infallible, io, sync::Arc, time::Duration};

use http_body_util::Full;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::net::TcpListener;
use ws_examples::Words;
use ws_tokio::{
    Bytes, Error, OriginPolicy, ServerConfig,
    http::{self, HeaderValue, Request, Response, StatusCode, Upgrade, header},
};

#[tokio::main]
async fn main() -> io::Result<()> {
    let mut words = Words::of_process();
    let listen = words.option("--listen").unwrap_or_else(|| "127.0.0.1:9001".to_owned());
    words.end("hyper_server [--listen ADDR]");

    let config = Arc::new(ServerConfig { origins: OriginPolicy::Same, ..ServerConfig::default() });
    let service = service_fn(move |request| {
        let response = serve(request, &config);
        async { Ok::<_, Infallible>(response) }
    });
    let mut http = auto::Builder::new(TokioExecutor::new());
    // With a timer, hyper leaves clients that never finish their request.
    http.http1().timer(TokioTimer::new());
    http.http2().timer(TokioTimer::new()).enable_connect_protocol();

    let listener = TcpListener::bind(listen).await?;
    println!("listening on http://{}/", listener.local_addr()?);
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // No file descriptor is free, perhaps.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        // Frames are gathered before they are written; waiting for more would only delay them.
        let _ = stream.set_nodelay(true);
        let (http, service) = (http.clone(), service.clone());
        tokio::spawn(async move { http.serve_connection_with_upgrades(TokioIo::new(stream), service).await });
    }
}

fn serve(mut request: Request<Incoming>, config: &Arc<ServerConfig>) -> Response<Full<Bytes>> {
    match request.uri().path() {
        "/" => {
            let mut page = Response::new(Full::from(include_str!("../page.html")));
            page.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html"));
            page
        }
        "/ws" => match http::upgrade(&mut request, Arc::clone(config)) {
            Ok((response, upgrade)) => {
                tokio::spawn(echo(upgrade));
                response
            }
            Err(error) => http::refusal(&error),
        },
        _ => {
            let mut response = Response::default();
            *response.status_mut() = StatusCode::NOT_FOUND;
            response
        }
    }
}

async fn echo(upgrade: Upgrade) -> Result<(), Error> {
    let mut ws = upgrade.await?;
    while let Some(message) = ws.recv().await? {
        ws.send(message).await?;
    }
    Ok(())
}
