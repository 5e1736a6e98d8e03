//! Links: two pipes each, with latency, cuts, a bounded capacity and troubles. Their ends are the sockets of the
//! library, and a [`Port`] is where a server gets them from.

use std::{
    collections::VecDeque,
    fmt,
    future::poll_fn,
    io::{self, ErrorKind, IoSlice},
    net::SocketAddr,
    task::{Context, Poll, Waker, ready},
    time::{Duration, Instant},
};

use ws_proto::{
    Role,
    drive::{Listen, Peer, Socket},
};

use crate::{
    rng::Rng,
    tap::Tap,
    world::{self, Alarm, Event, Key, World, with},
};

/// Two pipes: what each side writes. Side 0 is the client.
pub(crate) struct Link {
    pub(crate) weather: Weather,
    pipes: [Pipe; 2],
    ends: [End; 2],
    /// Whether anything happened to it that no conversation survives.
    pub(crate) is_hurt: bool,
    /// How often each side called what of its socket, and which call is to be different.
    pub(crate) calls: [[usize; 5]; 2],
    pub(crate) twisted: Option<Twisted>,
}

/// A method of a socket.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Call {
    Read,
    Write,
    Flush,
    Shutdown,
    Sleep,
}

/// Which call is different, and how: the so-and-so-manyth of its kind, of one side.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Twisted {
    pub(crate) side: usize,
    pub(crate) call: Call,
    pub(crate) count: usize,
    pub(crate) twist: Twist,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Twist {
    /// It is pending, and wakes at once.
    Waits,
    /// It is pending, and wakes after a second.
    Pauses,
    /// It is pending, and so are those behind it.
    Hangs,
    /// It carries one byte.
    OneByte,
    Fails,
}

impl Twisted {
    /// Whether no conversation survives it.
    pub(crate) fn is_fatal(&self) -> bool {
        match self.twist {
            Twist::Fails => true,
            Twist::Hangs => self.call != Call::Sleep,
            Twist::Waits | Twist::Pauses | Twist::OneByte => false,
        }
    }
}

pub(crate) const CLIENT: usize = 0;
pub(crate) const SERVER: usize = 1;

/// One end of one link.
pub(crate) type At = (usize, usize);

/// What a link is like, from its beginning to its end.
#[derive(Clone, Debug)]
pub(crate) struct Weather {
    /// In microseconds, least and most.
    pub(crate) latency: (usize, usize),
    /// Bytes that are under way or not read.
    pub(crate) capacity: usize,
    /// Most bytes of one read or write.
    pub(crate) grain: usize,
    /// How many calls of a hundred wait for no reason.
    pub(crate) hiccups: usize,
    /// Whether writes wait for a flush.
    pub(crate) holds: bool,
    pub(crate) vectored: bool,
    /// Whether what has arrived can be read after a reset.
    pub(crate) drains: bool,
    /// By how much timers are early (at most half a millisecond) or late.
    pub(crate) early: Duration,
    pub(crate) late: Duration,
}

/// What happens to a link.
#[derive(Clone, Copy, Debug, Hash, PartialEq)]
pub(crate) enum Trouble {
    /// Both ends see a reset.
    Reset,
    /// Nothing of what one side writes arrives any more.
    Vanishes { side: usize },
    /// Nothing arrives for so long.
    Stalls(Duration),
}

struct Pipe {
    chunks: VecDeque<(Instant, Vec<u8>)>,
    /// Bytes that count against the capacity.
    len: usize,
    last_arrival: Instant,
    /// When its end arrives.
    fin: Option<Instant>,
    has_vanished: bool,
    written: Tap,
    read: Tap,
}

#[derive(Default)]
struct End {
    is_reset: bool,
    is_shut: bool,
    is_gone: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
    held: Vec<u8>,
}

impl Link {
    /// What a side wrote.
    pub(crate) fn written(&self, side: usize) -> &Tap {
        &self.pipes[side].written
    }

    /// What a side has read.
    pub(crate) fn read(&self, side: usize) -> &Tap {
        &self.pipes[1 - side].read
    }

    /// What a side writes need not follow the protocol.
    pub(crate) fn let_loose(&mut self, side: usize) {
        self.pipes[side].written.let_loose();
        self.pipes[side].read.let_loose();
    }

    /// Whether a side has ended its half of TCP, or the other one went first.
    pub(crate) fn is_shut(&self, side: usize) -> bool {
        self.ends[side].is_shut || self.ends[side].is_reset || self.pipes[1 - side].fin.is_some()
    }

    pub(crate) fn arrives(&mut self, side: usize) {
        if let Some(reader) = self.ends[side].reader.take() {
            reader.wake();
        }
    }

    fn wakes(&mut self, side: usize) {
        let End { reader, writer, .. } = &mut self.ends[side];
        for waker in [reader.take(), writer.take()].into_iter().flatten() {
            waker.wake();
        }
    }

    fn room(&self, side: usize) -> usize {
        self.weather.capacity.saturating_sub(self.pipes[side].len)
    }
}

impl World {
    /// A link, and its two ends. It begins behind the handshake if it has none.
    pub(crate) fn link(&mut self, weather: Weather, has_handshake: bool) -> [Wire; 2] {
        let now = self.now();
        let pipe = |role| Pipe {
            chunks: VecDeque::new(),
            len: 0,
            last_arrival: now,
            fin: None,
            has_vanished: false,
            written: Tap::new(role, has_handshake),
            read: Tap::new(role, has_handshake),
        };
        let pipes = [pipe(Role::Client), pipe(Role::Server)];
        let (calls, twisted) = (Default::default(), None);
        self.links.push(Link { weather, pipes, ends: Default::default(), is_hurt: false, calls, twisted });
        self.books.open();
        let link = self.links.len() - 1;
        [CLIENT, SERVER].map(|side| Wire { at: (link, side), timer: None })
    }

    pub(crate) fn trouble(&mut self, index: usize, trouble: Trouble) {
        self.note(Event::Troubled { link: index, trouble });
        let now = self.now();
        let link = &mut self.links[index];
        link.is_hurt = true;
        match trouble {
            Trouble::Reset => {
                self.resets(index, CLIENT);
                self.resets(index, SERVER);
            }
            Trouble::Vanishes { side } => {
                let pipe = &mut link.pipes[side];
                pipe.has_vanished = true;
                pipe.chunks.retain(|(arrival, _)| *arrival <= now);
                pipe.fin = pipe.fin.filter(|arrival| *arrival <= now);
            }
            Trouble::Stalls(duration) => {
                let until = now + duration;
                for side in [CLIENT, SERVER] {
                    let pipe = &mut self.links[index].pipes[side];
                    pipe.last_arrival = pipe.last_arrival.max(until);
                    let late = pipe.chunks.iter_mut().map(|(arrival, _)| arrival).chain(&mut pipe.fin);
                    late.filter(|arrival| **arrival > now).for_each(|arrival| *arrival = until.max(*arrival));
                    self.alarm(until, Alarm::Arrives(index, 1 - side));
                }
            }
        }
    }

    /// An end learns that the other has reset the link: what is under way is lost.
    pub(crate) fn resets(&mut self, index: usize, side: usize) {
        let now = self.now();
        let link = &mut self.links[index];
        link.ends[side].is_reset = true;
        link.pipes[1 - side].chunks.retain(|(arrival, _)| *arrival <= now);
        link.wakes(side);
    }

    fn latency(&mut self, index: usize) -> Duration {
        let (low, high) = self.links[index].weather.latency;
        Duration::from_micros(self.rng.between(low, high) as u64)
    }

    /// Counts a call: how many bytes go at once, unless it waits or fails.
    fn begin(&mut self, (index, side): At, call: Call, cx: &Context<'_>) -> Poll<io::Result<usize>> {
        let link = &mut self.links[index];
        let count = &mut link.calls[side][call as usize];
        *count += 1;
        let twisted = link.twisted.filter(|twisted| (twisted.side, twisted.call) == (side, call));
        let hangs = twisted.is_some_and(|twisted| twisted.twist == Twist::Hangs && twisted.count < *count);
        let twist =
            twisted.filter(|twisted| hangs || twisted.count + 1 == *count).map(|twisted| twisted.twist);
        let Weather { grain, hiccups, .. } = link.weather;
        match twist {
            Some(Twist::Hangs) => return Poll::Pending,
            Some(Twist::Fails) => return Poll::Ready(Err(ErrorKind::ConnectionReset.into())),
            Some(Twist::OneByte) => return Poll::Ready(Ok(1)),
            Some(Twist::Pauses) => {
                let at = self.now() + Duration::from_secs(1);
                self.alarm(at, Alarm::Wake(cx.waker().clone()));
                return Poll::Pending;
            }
            Some(Twist::Waits) => {}
            None if hiccups > 0 && self.rng.percent(hiccups) => {}
            None => return Poll::Ready(Ok(self.rng.between(1, grain))),
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn poll_read(&mut self, (index, side): At, cx: &Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        assert!(!buf.is_empty(), "a read into nothing is taken for the end");
        let grain = ready!(self.begin((index, side), Call::Read, cx))?;
        let now = self.now();
        let Link { weather, pipes, ends, .. } = &mut self.links[index];
        let (end, pipe) = (&mut ends[side], &mut pipes[1 - side]);
        if end.is_reset && (!weather.drains || pipe.chunks.is_empty()) {
            return Poll::Ready(Err(ErrorKind::ConnectionReset.into()));
        }
        let Some((arrival, chunk)) = pipe.chunks.front_mut().filter(|(arrival, _)| *arrival <= now) else {
            if pipe.chunks.is_empty() && pipe.fin.is_some_and(|fin| fin <= now) {
                return Poll::Ready(Ok(0));
            }
            end.reader = Some(cx.waker().clone());
            return Poll::Pending;
        };
        let len = chunk.len().min(grain).min(buf.len());
        buf[..len].copy_from_slice(&chunk[..len]);
        pipe.read.see(&chunk[..len]);
        pipe.len -= len;
        if len < chunk.len() {
            let rest = chunk.split_off(len);
            let arrival = *arrival;
            pipe.chunks[0] = (arrival, rest);
        } else {
            pipe.chunks.pop_front();
        }
        if let Some(writer) = ends[1 - side].writer.take() {
            writer.wake();
        }
        self.note(Event::Read { link: index, side, len });
        Poll::Ready(Ok(len))
    }

    fn poll_write(&mut self, at: At, cx: &Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let (index, side) = at;
        let grain = ready!(self.begin(at, Call::Write, cx))?;
        let link = &mut self.links[index];
        assert!(!link.ends[side].is_shut, "written after the shutdown");
        assert!(link.weather.vectored || slices.len() == 1, "{} slices", slices.len());
        if link.ends[side].is_reset {
            return Poll::Ready(Err(ErrorKind::BrokenPipe.into()));
        }
        let holds = link.weather.holds;
        if holds && link.ends[side].held.len() >= HELD {
            self.carry_held(at);
        }
        let link = &mut self.links[index];
        let room = if holds { HELD - link.ends[side].held.len() } else { link.room(side) };
        if room == 0 {
            link.ends[side].writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let mut bytes = Vec::new();
        for slice in slices {
            assert!(!slice.is_empty(), "an empty slice");
            let len = slice.len().min(room.min(grain) - bytes.len());
            bytes.extend_from_slice(&slice[..len]);
        }
        let len = bytes.len();
        link.pipes[side].written.see(&bytes);
        if holds {
            link.ends[side].held.extend(bytes);
        } else {
            self.carry(at, bytes);
        }
        self.note(Event::Wrote { link: index, side, len });
        Poll::Ready(Ok(len))
    }

    fn poll_flush(&mut self, at: At, cx: &Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.begin(at, Call::Flush, cx))?;
        self.poll_carry_held(at, cx)
    }

    fn poll_carry_held(&mut self, at: At, cx: &Context<'_>) -> Poll<io::Result<()>> {
        let (index, side) = at;
        if self.links[index].ends[side].is_reset && self.links[index].weather.holds {
            return Poll::Ready(Err(ErrorKind::BrokenPipe.into()));
        }
        self.carry_held(at);
        let end = &mut self.links[index].ends[side];
        if end.held.is_empty() {
            return Poll::Ready(Ok(()));
        }
        end.writer = Some(cx.waker().clone());
        Poll::Pending
    }

    fn poll_shutdown(&mut self, at: At, cx: &Context<'_>) -> Poll<io::Result<()>> {
        let (index, side) = at;
        ready!(self.begin(at, Call::Shutdown, cx))?;
        ready!(self.poll_carry_held(at, cx))?;
        if self.links[index].ends[side].is_reset {
            return Poll::Ready(Err(ErrorKind::NotConnected.into()));
        }
        self.links[index].ends[side].is_shut = true;
        self.ends(at);
        self.note(Event::ShutDown { link: index, side });
        Poll::Ready(Ok(()))
    }

    /// Passes on what an end held back, as far as there is room.
    fn carry_held(&mut self, at: At) {
        let (index, side) = at;
        let link = &mut self.links[index];
        let len = link.room(side).min(link.ends[side].held.len());
        if len > 0 {
            let bytes = link.ends[side].held.drain(..len).collect();
            self.carry(at, bytes);
        }
    }

    fn carry(&mut self, (index, side): At, bytes: Vec<u8>) {
        let latency = self.latency(index);
        let now = self.now();
        let Link { pipes, ends, .. } = &mut self.links[index];
        let pipe = &mut pipes[side];
        let arrival = pipe.last_arrival.max(now + latency);
        pipe.last_arrival = arrival;
        if pipe.has_vanished {
            pipe.len += bytes.len();
        } else if ends[1 - side].is_gone {
            // A system that has nobody to give it to answers by a reset.
            self.alarm(arrival + latency, Alarm::Resets(index, side));
        } else {
            pipe.len += bytes.len();
            pipe.chunks.push_back((arrival, bytes));
            self.alarm(arrival, Alarm::Arrives(index, 1 - side));
        }
    }

    /// One side sends no more.
    fn ends(&mut self, (index, side): At) {
        let latency = self.latency(index);
        let now = self.now();
        let pipe = &mut self.links[index].pipes[side];
        if !pipe.has_vanished && pipe.fin.is_none() {
            let arrival = pipe.last_arrival.max(now + latency);
            pipe.fin = Some(arrival);
            self.alarm(arrival, Alarm::Arrives(index, 1 - side));
        }
    }

    /// A socket is closed: with unread bytes that is a reset, as systems do it.
    fn drops(&mut self, at: At) {
        let (index, side) = at;
        self.note(Event::Dropped { link: index, side });
        let latency = self.latency(index);
        let now = self.now();
        let Link { pipes, ends, .. } = &mut self.links[index];
        let End { is_reset, is_shut, .. } = ends[side];
        ends[side] = End { is_gone: true, is_reset, is_shut, ..End::default() };
        let unread = pipes[1 - side].chunks.front().map(|(arrival, _)| *arrival);
        if pipes[side].has_vanished || ends[side].is_reset {
            return;
        }
        if let Some(arrival) = unread {
            self.alarm(arrival.max(now) + latency, Alarm::Resets(index, 1 - side));
        }
        if unread.is_none_or(|arrival| arrival > now) {
            self.ends(at);
        }
    }

    pub(crate) fn check_links(&self) {
        for link in &self.links {
            assert!(link.ends.iter().all(|end| end.is_gone), "a socket was not dropped");
        }
    }
}

impl Weather {
    pub(crate) fn draw(rng: &mut Rng, is_calm: bool) -> Self {
        let (capacity, grain) = match rng.below(5) {
            0 => (rng.between(1, 64), rng.between(1, 64)),
            1 => (rng.between(64, 4096), rng.between(1, 4096)),
            2 => (64 * 1024, rng.between(16, 2000)),
            _ => (64 * 1024, 256 * 1024),
        };
        let latency = match rng.below(3) {
            // What is narrow must not be long, or deadlines pass.
            0 => (0, 0),
            _ if capacity.min(grain) < 1000 => (0, 100),
            1 => (100, 2000),
            _ if is_calm => (1000, 20_000),
            _ => (1000, 400_000),
        };
        Self {
            latency,
            capacity,
            grain,
            hiccups: rng.pick(&[0, 0, 10, 50]),
            holds: rng.percent(25),
            vectored: rng.percent(75),
            drains: rng.percent(50),
            early: Duration::from_micros(rng.pick(&[0, 0, 400])),
            late: Duration::from_micros(rng.pick(&[0, 0, 1000])),
        }
    }

    /// Whether messages have to be short to be done in time.
    pub(crate) fn is_narrow(&self) -> bool {
        self.capacity.min(self.grain) < 1000
    }
}

/// One end of a link, and a timer.
pub(crate) struct Wire {
    at: At,
    timer: Option<Key>,
}

impl Wire {
    pub(crate) fn at(&self) -> At {
        self.at
    }

    /// Writes all of it, or as much as can be.
    pub(crate) async fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let len = poll_fn(|cx| self.poll_write(cx, &[IoSlice::new(bytes)])).await?;
            bytes = &bytes[len..];
        }
        poll_fn(|cx| self.poll_flush(cx)).await
    }

    pub(crate) async fn read(&mut self) -> io::Result<Vec<u8>> {
        let mut buf = vec![0; 4096];
        let len = poll_fn(|cx| self.poll_read(cx, &mut buf)).await?;
        buf.truncate(len);
        Ok(buf)
    }

    fn stop_timer(&mut self) {
        if let Some(key) = self.timer.take() {
            with(|world| world.cancel(key));
        }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.stop_timer();
        with(|world| world.drops(self.at));
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.at)
    }
}

impl Socket for Wire {
    type Stream = Self;

    fn new(stream: Self) -> Self {
        stream
    }

    fn stream(&self) -> &Self {
        self
    }

    fn stream_mut(&mut self) -> &mut Self {
        self
    }

    fn into_stream(self) -> Self {
        self
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        with(|world| world.poll_read(self.at, cx, buf))
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        with(|world| world.poll_write(self.at, cx, slices))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        with(|world| world.poll_flush(self.at, cx))
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        with(|world| world.poll_shutdown(self.at, cx))
    }

    fn is_vectored(&self) -> bool {
        with(|world| world.links[self.at.0].weather.vectored)
    }

    fn now(&self) -> Instant {
        world::now()
    }

    fn poll_sleep(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        self.stop_timer();
        with(|world| {
            if world.begin(self.at, Call::Sleep, cx).is_pending() {
                return Poll::Pending;
            }
            let Weather { early, late, .. } = world.links[self.at.0].weather;
            if world.now() + early >= deadline {
                return Poll::Ready(());
            }
            self.timer = Some(world.alarm(deadline + late - early, Alarm::Wake(cx.waker().clone())));
            Poll::Pending
        })
    }
}

/// Where clients knock.
#[derive(Default)]
pub(crate) struct Port {
    knocking: VecDeque<io::Result<Wire>>,
    is_closed: bool,
    /// How many streams of a hundred come to nothing.
    pub(crate) bad: usize,
    server: Option<Waker>,
}

/// The listener of that.
pub(crate) struct Listener;

/// Knocks with one end of a link.
pub(crate) fn knock(wire: Wire) -> io::Result<()> {
    let refused = with(|world| {
        if world.port.is_closed {
            return Some(wire);
        }
        if world.rng.percent(world.port.bad) {
            let kind = world.rng.pick(&[ErrorKind::ConnectionAborted, ErrorKind::OutOfMemory]);
            world.port.knocking.push_back(Err(kind.into()));
        }
        world.port.knocking.push_back(Ok(wire));
        if let Some(server) = world.port.server.take() {
            server.wake();
        }
        None
    });
    // Outside the world, which hears of it.
    refused.map_or(Ok(()), |_| Err(ErrorKind::ConnectionRefused.into()))
}

impl Listen for Listener {
    type Socket = Wire;

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(SocketAddr::from(([127, 0, 0, 1], 80)))
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(Wire, Peer)>> {
        with(|world| match world.port.knocking.pop_front() {
            Some(wire) => Poll::Ready(wire.map(|wire| (wire, Peer::default()))),
            None => {
                world.port.server = Some(cx.waker().clone());
                Poll::Pending
            }
        })
    }

    fn open(&self, stream: Wire) -> impl Future<Output = io::Result<Wire>> + Send + 'static {
        let bad = with(|world| {
            let bad = world.port.bad;
            world.rng.percent(bad).then(|| world.rng.percent(50))
        });
        async move {
            match bad {
                None => Ok(stream),
                Some(true) => Err(ErrorKind::InvalidData.into()),
                // As TLS whose client says nothing: the time of the handshake passes.
                Some(false) => std::future::pending().await,
            }
        }
    }

    fn sleep(duration: Duration) -> impl Future<Output = ()> + Send + 'static {
        world::sleep(duration)
    }

    fn spawn(future: impl Future<Output = ()> + Send + 'static) {
        world::spawn("handler", future);
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let refused = with(|world| {
            world.port.is_closed = true;
            world.port.server = None;
            std::mem::take(&mut world.port.knocking)
        });
        drop(refused);
    }
}

/// Most bytes that a socket holds back.
const HELD: usize = 4096;
