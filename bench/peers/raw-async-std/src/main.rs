//! Echoes bytes as they are: the ceiling for anything on async-std.
use async_std::{
    io::{ReadExt, WriteExt},
    net::TcpListener,
    task,
};
use common::Args;

fn main() {
    let args = Args::parse();
    let len = args.opt_usize("buf", 128 * 1024);
    // Spawned, as what `block_on` runs is on a thread of its own.
    task::block_on(task::spawn(async move {
        let listener = TcpListener::from(args.listen());
        loop {
            let Ok((mut stream, _)) = listener.accept().await else { continue };
            let _ = stream.set_nodelay(true);
            task::spawn(async move {
                let mut buffer = vec![0; len];
                while let Ok(len @ 1..) = stream.read(&mut buffer).await {
                    if stream.write_all(&buffer[..len]).await.is_err() {
                        return;
                    }
                }
            });
        }
    }));
}
