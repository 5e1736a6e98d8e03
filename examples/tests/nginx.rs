//! The guide `docs/nginx.md` with the real nginx: its configuration, word for word but for ports, files and times.
//!
//! nginx runs in the foreground, in a folder of its own. Where it is not installed the tests say so and pass; where
//! `CI` is set they fail.

use std::{
    env, fs,
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    net::TcpStream,
    time::{sleep, timeout},
};
use ws_tokio::{
    ClientConfig, CloseCode, Config, Connector, DeflateConfig, Error, HandshakeError, Message, OriginPolicy,
    Server, ServerConfig, Transport, WebSocket,
    http::{Response, StatusCode},
    rustls::{self, RootCertStore, crypto::ring, pki_types::CertificateDer},
};

const GUIDE: &str = include_str!("../../docs/nginx.md");

/// What the guide's server is called, and its pages.
const NAME: &str = "example.com";
const ORIGIN: &str = "https://example.com";

#[tokio::test]
async fn messages_pass_whole_and_compressed() {
    let Some(proxy) = Proxy::start(echo(config()).await, |text| text).await else { return };
    let (mut ws, response) = proxy.connect(ORIGIN).await.unwrap();
    assert_eq!(response.headers()["sec-websocket-extensions"], "permessage-deflate");
    for message in [
        Message::from("hello"),
        Message::from("compressed ".repeat(10_000)),
        // Five times client_max_body_size, and more than any buffer holds.
        Message::from(noise(5 << 20)),
    ] {
        let (mut reader, mut writer) = ws.split();
        let (sent, came) = within(async { tokio::join!(writer.send(message.clone()), reader.recv()) }).await;
        sent.unwrap();
        // Without assert_eq, which would print megabytes.
        assert!(came.unwrap() == Some(message));
        ws = ws_tokio::reunite(reader, writer).unwrap();
    }
}

#[tokio::test]
async fn the_address_is_what_nginx_saw_not_what_the_client_says() {
    let server = serve(config(), async |mut ws, request| {
        let field = |name: &str| request.headers()[name].to_str().unwrap().to_owned();
        let seen = format!("{} {}", field("x-forwarded-for"), field("x-forwarded-proto"));
        ws.send(seen).await
    })
    .await;
    let Some(proxy) = Proxy::start(server, |text| text).await else { return };
    let claims = proxy.connector().header("x-forwarded-for", "192.0.2.1");
    let (mut ws, _) = proxy.connect_by(claims.header("x-forwarded-proto", "gopher"), ORIGIN).await.unwrap();
    assert_eq!(within(ws.recv()).await.unwrap(), Some("127.0.0.1 https".into()));
}

#[tokio::test]
async fn keepalive_outlasts_the_timeout_of_the_proxy() {
    let keepalive = Some(Duration::from_millis(200));
    let config = ServerConfig { connection: Config { keepalive, ..Config::default() }, ..config() };
    let Some(proxy) = Proxy::start(echo(config).await, a_second).await else { return };
    let (mut ws, _) = proxy.connect(ORIGIN).await.unwrap();
    // Silent for longer than nginx waits, but for the pongs.
    assert!(timeout(Duration::from_secs(3), ws.recv()).await.is_err(), "the connection has ended");
    ws.send("hello").await.unwrap();
    assert_eq!(within(ws.recv()).await.unwrap(), Some("hello".into()));
}

#[tokio::test]
async fn without_keepalive_the_proxy_cuts_what_is_silent() {
    let config = ServerConfig { connection: Config { keepalive: None, ..Config::default() }, ..config() };
    let Some(proxy) = Proxy::start(echo(config).await, a_second).await else { return };
    let (mut ws, _) = proxy.connect(ORIGIN).await.unwrap();
    let end = within(ws.recv()).await;
    assert!(matches!(end, Err(Error::Abnormal | Error::Io(_))), "{end:?}");
    assert_eq!(ws.closed().unwrap().code, CloseCode::ABNORMAL);
}

#[tokio::test]
async fn a_client_that_speaks_and_hears_nothing_is_not_cut() {
    let config = ServerConfig { connection: Config { keepalive: None, ..Config::default() }, ..config() };
    let server = serve(config, async |mut ws, _request| {
        let mut count = 0;
        while let Some(message) = ws.recv().await? {
            count += 1;
            if message == Message::from("how many?") {
                ws.send(count.to_string()).await?;
            }
        }
        Ok(())
    })
    .await;
    let Some(proxy) = Proxy::start(server, a_second).await else { return };
    let (mut ws, _) = proxy.connect(ORIGIN).await.unwrap();
    for _ in 0..15 {
        ws.send("nothing to answer").await.unwrap();
        sleep(Duration::from_millis(200)).await;
    }
    ws.send("how many?").await.unwrap();
    assert_eq!(within(ws.recv()).await.unwrap(), Some("16".into()));
}

#[tokio::test]
async fn close_codes_pass_in_both_directions() {
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let server = serve(config(), move |mut ws: WebSocket, _request| {
        let tell = tell.clone();
        async move {
            while let Some(message) = ws.recv().await? {
                if message == Message::from("close") {
                    ws.start_close(CloseCode::new(4001), "as you like")?;
                }
            }
            tell.send(ws.closed().cloned().unwrap()).unwrap();
            Ok(())
        }
    })
    .await;
    let Some(proxy) = Proxy::start(server, |text| text).await else { return };

    let (mut ws, _) = proxy.connect(ORIGIN).await.unwrap();
    within(ws.close(CloseCode::new(4000), "bye")).await.unwrap();
    let closed = within(told.recv()).await.unwrap();
    assert_eq!((closed.code, &*closed.reason, closed.clean), (CloseCode::new(4000), "bye", true));

    let (mut ws, _) = proxy.connect(ORIGIN).await.unwrap();
    ws.send("close").await.unwrap();
    assert_eq!(within(ws.recv()).await.unwrap(), None);
    let closed = ws.closed().unwrap();
    assert_eq!((closed.code, &*closed.reason, closed.clean), (CloseCode::new(4001), "as you like", true));
}

#[tokio::test]
async fn origins_are_judged_behind_the_proxy() {
    let Some(proxy) = Proxy::start(echo(config()).await, |text| text).await else { return };
    assert_eq!(proxy.refusal("https://evil.example").await, StatusCode::FORBIDDEN);
    assert!(proxy.connect(ORIGIN).await.is_ok());

    let same = ServerConfig { origins: OriginPolicy::Same, ..config() };
    let Some(proxy) = Proxy::start(echo(same).await, |text| text).await else { return };
    // The page's own port is that of nginx.
    assert!(proxy.connect(&format!("{ORIGIN}:{}", proxy.port)).await.is_ok());
    assert_eq!(proxy.refusal(ORIGIN).await, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn each_fault_of_the_configuration_has_the_symptom_of_the_table() {
    for (missing, status) in [
        ("proxy_set_header Upgrade $http_upgrade;", StatusCode::UPGRADE_REQUIRED),
        ("proxy_set_header Connection $connection_upgrade;", StatusCode::UPGRADE_REQUIRED),
        ("proxy_http_version 1.1;", StatusCode::HTTP_VERSION_NOT_SUPPORTED),
    ] {
        let without = |text: String| replace(&text, missing, "");
        let Some(proxy) = Proxy::start(echo(config()).await, without).await else { return };
        assert_eq!(proxy.refusal(ORIGIN).await, status, "without {missing}");
    }
    let same = ServerConfig { origins: OriginPolicy::Same, ..config() };
    let without = |text: String| replace(&text, "proxy_set_header Host $http_host;", "");
    let Some(proxy) = Proxy::start(echo(same).await, without).await else { return };
    assert_eq!(proxy.refusal(&format!("{ORIGIN}:{}", proxy.port)).await, StatusCode::FORBIDDEN);

    let cut = |text: String| replace(&text, "http://websockets;", "http://websockets/;");
    let Some(proxy) = Proxy::start(echo(config()).await, cut).await else { return };
    assert_eq!(proxy.refusal(ORIGIN).await, StatusCode::NOT_FOUND);

    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let Some(proxy) = Proxy::start(nobody, |text| text).await else { return };
    assert_eq!(proxy.refusal(ORIGIN).await, StatusCode::BAD_GATEWAY);
}

// Helpers

/// The configuration of the guide's server, with compression.
fn config() -> ServerConfig {
    ServerConfig {
        path: Some("/ws".into()),
        origins: OriginPolicy::List(vec![ORIGIN.into()]),
        deflate: Some(DeflateConfig::default()),
        ..ServerConfig::default()
    }
}

/// The timeouts of the guide, made short.
fn a_second(text: String) -> String {
    let text = replace(&text, "proxy_read_timeout 60s;", "proxy_read_timeout 1s;");
    replace(&text, "proxy_send_timeout 60s;", "proxy_send_timeout 1s;")
}

/// A server on a free port, which it gives.
async fn serve<F>(
    config: ServerConfig,
    handler: impl Fn(WebSocket, ws_tokio::http::Request<()>) -> F + Send + Sync + 'static,
) -> u16
where
    F: Future<Output = Result<(), Error>> + Send + 'static,
{
    let server = Server::bind("127.0.0.1:0", config).await.unwrap();
    let port = server.local_addr().unwrap().port();
    tokio::spawn(server.serve(handler));
    port
}

async fn echo(config: ServerConfig) -> u16 {
    serve(config, async |mut ws, _request| {
        while let Some(message) = ws.recv().await? {
            ws.send(message).await?;
        }
        Ok(())
    })
    .await
}

/// nginx in front of a server. It ends with the test.
struct Proxy {
    child: Child,
    folder: PathBuf,
    port: u16,
    certificate: CertificateDer<'static>,
}

impl Proxy {
    /// Starts nginx with the guide's configuration, with what `adapt` changes in it; `None` where there is no nginx.
    async fn start(server: u16, adapt: impl Fn(String) -> String) -> Option<Self> {
        // Debian has it in a folder that is not in everybody's path.
        let is_there = |name: &&str| Command::new(name).arg("-v").stderr(Stdio::null()).status().is_ok();
        let Some(nginx) = ["nginx", "/usr/sbin/nginx"].into_iter().find(is_there) else {
            assert!(env::var_os("CI").is_none(), "nginx is not installed (package nginx-light)");
            eprintln!("nginx is not installed: nothing was tested");
            return None;
        };
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = env::temp_dir().join(format!("ws-examples-nginx-{}-{number}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        let made = rcgen::generate_simple_self_signed([NAME.to_owned()]).unwrap();
        fs::write(folder.join("cert.pem"), made.cert.pem()).unwrap();
        fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
        let certificate = made.cert.der().clone();
        // A port is free until somebody takes it: nginx cannot be asked to choose one, so it may take several attempts.
        for _ in 0..10 {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            fs::write(folder.join("guide.conf"), adapt(guide(port, server))).unwrap();
            fs::write(folder.join("nginx.conf"), MAIN).unwrap();
            let mut child = Command::new(nginx)
                .args(["-e", "stderr", "-c", "nginx.conf", "-p"])
                .arg(&folder)
                .spawn()
                .expect("nginx was there a moment ago");
            for _ in 0..500 {
                if child.try_wait().unwrap().is_some() {
                    break;
                }
                if TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
                    return Some(Self { child, folder, port, certificate });
                }
                sleep(Duration::from_millis(20)).await;
            }
            let _ = child.kill();
            let _ = child.wait();
        }
        panic!("nginx does not start");
    }

    fn connector(&self) -> Connector {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let tls = rustls::ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Connector::new(ClientConfig::default()).tls(tls)
    }

    async fn connect_by(
        &self,
        connector: Connector,
        origin: &str,
    ) -> Result<(WebSocket, Response<()>), Error> {
        let request = ws_tokio::client_request(&format!("wss://{NAME}:{}/ws", self.port))?;
        let stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
        within(connector.origin(origin).connect_over(Transport::from(stream), request)).await
    }

    /// Connects as a page of this origin does.
    async fn connect(&self, origin: &str) -> Result<(WebSocket, Response<()>), Error> {
        self.connect_by(self.connector(), origin).await
    }

    async fn refusal(&self, origin: &str) -> StatusCode {
        match self.connect(origin).await {
            Err(Error::Handshake(HandshakeError::Status(response))) => response.status(),
            other => panic!("{other:?} is no refusal"),
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// The configuration in the guide, with these ports and the files of the test.
fn guide(port: u16, server: u16) -> String {
    let block = GUIDE.split("```nginx\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let text = replace(block, "listen 443 ssl;", &format!("listen 127.0.0.1:{port} ssl;"));
    let text = replace(&text, "127.0.0.1:9001", &format!("127.0.0.1:{server}"));
    let text = replace(&text, "/etc/ssl/example.com.pem", "cert.pem");
    replace(&text, "/etc/ssl/example.com.key", "key.pem")
}

/// Replaces what is there once.
#[track_caller]
fn replace(text: &str, from: &str, to: &str) -> String {
    assert_eq!(text.matches(from).count(), 1, "{from}");
    text.replace(from, to)
}

/// What stands around the http block, and in it for a process that owns nothing but its folder.
const MAIN: &str = "
daemon off;
master_process off;
pid nginx.pid;
error_log stderr crit;
events {}
http {
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    include guide.conf;
}
";

/// Bytes that do not compress.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let next = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    };
    (0..len).map(next).collect()
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(30), future).await.expect("it hangs")
}
