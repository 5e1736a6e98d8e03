//! Echoes bytes as they are with one epoll loop and no runtime: the ceiling
//! for anything, what a C event loop can reach. `--opt frames=1`: frames, as
//! `common::answer` does.
use common::*;
use std::collections::HashMap;
use std::os::fd::AsRawFd;

struct Conn {
    out: Vec<u8>,
    pos: usize,
    armed: bool,
    frames: Option<Frames>,
}

fn main() {
    let args = Args::parse();
    let l = args.listen();
    let lfd = l.as_raw_fd();
    unsafe {
        let ep = libc::epoll_create1(libc::EPOLL_CLOEXEC);
        let mut ev = libc::epoll_event { events: libc::EPOLLIN as u32, u64: lfd as u64 };
        libc::epoll_ctl(ep, libc::EPOLL_CTL_ADD, lfd, &mut ev);
        let mut conns: HashMap<i32, Conn> = HashMap::new();
        let mut evs = vec![libc::epoll_event { events: 0, u64: 0 }; 1024];
        let mut buf = vec![0u8; args.opt_usize("buf", 128 * 1024)];
        loop {
            let n = libc::epoll_wait(ep, evs.as_mut_ptr(), evs.len() as i32, -1);
            for e in &evs[..n.max(0) as usize] {
                let (fd, events) = (e.u64 as i32, e.events);
                if fd == lfd {
                    loop {
                        let c = libc::accept4(
                            lfd,
                            std::ptr::null_mut(),
                            std::ptr::null_mut(),
                            libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC,
                        );
                        if c < 0 {
                            break;
                        }
                        let one: i32 = 1;
                        libc::setsockopt(
                            c,
                            libc::IPPROTO_TCP,
                            libc::TCP_NODELAY,
                            &one as *const _ as *const _,
                            4,
                        );
                        let mut ev = libc::epoll_event { events: libc::EPOLLIN as u32, u64: c as u64 };
                        libc::epoll_ctl(ep, libc::EPOLL_CTL_ADD, c, &mut ev);
                        let frames = args.opt("frames").map(|_| Frames::new(buf.len()));
                        conns.insert(c, Conn { out: Vec::new(), pos: 0, armed: false, frames });
                    }
                    continue;
                }
                if events & (libc::EPOLLOUT as u32) != 0 {
                    let c = conns.get_mut(&fd).unwrap();
                    flush(ep, fd, c);
                    if c.pos < c.out.len() {
                        continue;
                    }
                }
                if events & (libc::EPOLLIN | libc::EPOLLHUP | libc::EPOLLERR) as u32 == 0 {
                    continue;
                }
                let c = conns.get_mut(&fd).unwrap();
                let mut frames = c.frames.take();
                let space = frames.as_mut().map_or(&mut buf[..], |frames| frames.space());
                let r = libc::read(fd, space.as_mut_ptr() as *mut _, space.len());
                if r <= 0 {
                    if r < 0 && *libc::__errno_location() == libc::EAGAIN {
                        c.frames = frames;
                        continue;
                    }
                    libc::close(fd);
                    conns.remove(&fd);
                    continue;
                }
                if let Some(mut frames) = frames {
                    send(ep, fd, c, frames.answer(r as usize));
                    c.frames = Some(frames);
                    continue;
                }
                let data = &buf[..r as usize];
                if args.bcast {
                    for (fd, c) in conns.iter_mut() {
                        send(ep, *fd, c, data);
                    }
                } else {
                    send(ep, fd, conns.get_mut(&fd).unwrap(), data);
                }
            }
        }
    }
}

unsafe fn arm(ep: i32, fd: i32, c: &mut Conn, on: bool) {
    if c.armed != on {
        c.armed = on;
        // while output waits, input is left in the socket
        let events = if on { libc::EPOLLOUT } else { libc::EPOLLIN } as u32;
        let mut ev = libc::epoll_event { events, u64: fd as u64 };
        unsafe { libc::epoll_ctl(ep, libc::EPOLL_CTL_MOD, fd, &mut ev) };
    }
}

unsafe fn send(ep: i32, fd: i32, c: &mut Conn, data: &[u8]) {
    let mut off = 0;
    if c.out.is_empty() {
        let w = unsafe { libc::write(fd, data.as_ptr() as *const _, data.len()) };
        off = w.max(0) as usize;
    }
    if off < data.len() {
        c.out.extend_from_slice(&data[off..]);
        unsafe { arm(ep, fd, c, true) };
    }
}

unsafe fn flush(ep: i32, fd: i32, c: &mut Conn) {
    let w = unsafe { libc::write(fd, c.out[c.pos..].as_ptr() as *const _, c.out.len() - c.pos) };
    c.pos += w.max(0) as usize;
    if c.pos == c.out.len() {
        c.out.clear();
        c.pos = 0;
        unsafe { arm(ep, fd, c, false) };
    }
}
