//! Echoes bytes as they are: the ceiling for anything on async-std. `--opt frames=1`: frames, as `common::answer` does.
use async_std::{
    io::{ReadExt, WriteExt},
    net::TcpListener,
    task,
};
use common::{Args, Frames};

fn main() {
    let args = Args::parse();
    let frames = args.opt("frames").is_some();
    let len = args.opt_usize("buf", 128 * 1024);
    // Spawned, as what `block_on` runs is on a thread of its own.
    task::block_on(task::spawn(async move {
        let listener = TcpListener::from(args.listen());
        loop {
            let Ok((mut stream, _)) = listener.accept().await else { continue };
            let _ = stream.set_nodelay(true);
            if frames {
                task::spawn(async move {
                    let mut frames = Frames::new(len);
                    while let Ok(len @ 1..) = stream.read(frames.space()).await {
                        if stream.write_all(frames.answer(len)).await.is_err() {
                            return;
                        }
                    }
                });
                continue;
            }
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
