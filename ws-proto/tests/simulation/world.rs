//! Tasks on one thread, polled in an order that the seed chooses, and a clock that jumps to what happens next.

use std::{
    cell::RefCell,
    collections::{BTreeMap, hash_map::DefaultHasher},
    fmt,
    hash::{Hash, Hasher},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    thread,
    time::{Duration, Instant},
};

use crate::{
    books::Books,
    network::{Link, Port, Trouble},
    rng::Rng,
};

/// Everything that one seed decides about.
pub(crate) struct World {
    pub(crate) rng: Rng,
    start: Instant,
    now: Instant,
    tasks: Vec<Task>,
    alive: usize,
    alarms: BTreeMap<Key, Alarm>,
    next_alarm: u64,
    pub(crate) links: Vec<Link>,
    pub(crate) port: Port,
    pub(crate) books: Books,
    trace: DefaultHasher,
    is_loud: bool,
}

thread_local! {
    static WORLD: RefCell<Option<World>> = const { RefCell::new(None) };
    /// The tasks that were woken. Apart from the world, as tasks are woken from inside it.
    static READY: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

struct Task {
    name: &'static str,
    future: Option<Pin<Box<dyn Future<Output = ()>>>>,
    waker: Arc<TaskWaker>,
}

struct TaskWaker {
    id: usize,
    is_ready: AtomicBool,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.is_ready.swap(true, Ordering::Relaxed) {
            READY.with_borrow_mut(|ready| ready.push(self.id));
        }
    }
}

/// When an alarm goes off, and a number that no other has.
pub(crate) type Key = (Instant, u64);

/// What happens at a time.
pub(crate) enum Alarm {
    Wake(Waker),
    /// Something has arrived at one end of a link.
    Arrives(usize, usize),
    /// One end of a link learns that the other has reset it.
    Resets(usize, usize),
    Troubles(usize, Trouble),
}

/// Runs a world from its beginning to the end of its last task: what it did, as a number.
pub(crate) fn run(seed: u64, is_loud: bool, begin: impl FnOnce()) -> u64 {
    let start = start();
    let world = World {
        rng: Rng::new(seed),
        start,
        now: start,
        tasks: Vec::new(),
        alive: 0,
        alarms: BTreeMap::new(),
        next_alarm: 0,
        links: Vec::new(),
        port: Port::default(),
        books: Books::default(),
        trace: DefaultHasher::new(),
        is_loud,
    };
    READY.with_borrow_mut(Vec::clear);
    WORLD.set(Some(world));
    let _abandon = Abandon;
    begin();
    while poll_all() {
        advance();
    }
    let mut world = WORLD.take().expect("it runs");
    world.check_end();
    // In tasks of worlds to come nothing of this one is left.
    drop(world.alarms);
    for task in &world.tasks {
        assert_eq!(Arc::strong_count(&task.waker), 1, "somebody keeps a waker of {:?}", task.name);
    }
    world.trace.finish()
}

/// Lets go of a world that comes to a bad end: what is in it may be in any state.
struct Abandon;

impl Drop for Abandon {
    fn drop(&mut self) {
        if thread::panicking() {
            std::mem::forget(WORLD.take());
        }
    }
}

/// Polls whoever was woken until nobody is; whether anybody is left.
fn poll_all() -> bool {
    let mut polls = 0;
    while let Some(id) = with(|world| {
        READY.with_borrow_mut(|ready| {
            let count = ready.len();
            (count > 0).then(|| ready.swap_remove(world.rng.below(count)))
        })
    }) {
        let task = with(|world| {
            let task = &mut world.tasks[id];
            Some((task.future.take()?, Arc::clone(&task.waker)))
        });
        let Some((mut future, waker)) = task else { continue };
        waker.is_ready.store(false, Ordering::Relaxed);
        note(Event::Polled(id));
        match future.as_mut().poll(&mut Context::from_waker(&waker.into())) {
            Poll::Ready(()) => {
                drop(future);
                with(|world| world.alive -= 1);
            }
            Poll::Pending => with(|world| world.tasks[id].future = Some(future)),
        }
        polls += 1;
        assert!(polls < MAX_POLLS, "time stands still");
    }
    with(|world| world.alive > 0)
}

/// Goes on to what happens next.
fn advance() {
    with(|world| {
        let Some(((at, _), alarm)) = world.alarms.pop_first() else {
            panic!("nothing will ever happen to {:?}", world.waiting());
        };
        world.now = world.now.max(at);
        let elapsed = world.elapsed();
        assert!(elapsed < LIMIT, "after {elapsed:?} there still are {:?}", world.waiting());
        match alarm {
            Alarm::Wake(waker) => waker.wake(),
            Alarm::Arrives(link, side) => world.links[link].arrives(side),
            Alarm::Resets(link, side) => world.resets(link, side),
            Alarm::Troubles(link, trouble) => world.trouble(link, trouble),
        }
    });
}

impl World {
    pub(crate) fn now(&self) -> Instant {
        self.now
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    pub(crate) fn alarm(&mut self, at: Instant, alarm: Alarm) -> Key {
        let key = (at, self.next_alarm);
        self.next_alarm += 1;
        self.alarms.insert(key, alarm);
        key
    }

    pub(crate) fn cancel(&mut self, key: Key) {
        self.alarms.remove(&key);
    }

    pub(crate) fn note(&mut self, event: Event) {
        (self.now - self.start, &event).hash(&mut self.trace);
        if self.is_loud {
            match event {
                Event::Polled(id) => println!("{:>12?} {}#{id}", self.elapsed(), self.tasks[id].name),
                event => println!("{:>12?}   {event:?}", self.elapsed()),
            }
        }
    }

    fn waiting(&self) -> Vec<&'static str> {
        self.tasks.iter().filter(|task| task.future.is_some()).map(|task| task.name).collect()
    }

    fn check_end(&mut self) {
        self.check_links();
        self.books.check(&self.links);
    }
}

/// What the trace is made of.
#[derive(Clone, Debug, Hash)]
pub(crate) enum Event {
    Polled(usize),
    Read { link: usize, side: usize, len: usize },
    Wrote { link: usize, side: usize, len: usize },
    ShutDown { link: usize, side: usize },
    Dropped { link: usize, side: usize },
    Troubled { link: usize, trouble: Trouble },
    Said { link: usize, side: usize, what: String },
}

/// Looks at the world, or changes it. What is done must not call this again.
pub(crate) fn with<T>(act: impl FnOnce(&mut World) -> T) -> T {
    WORLD.with_borrow_mut(|world| act(world.as_mut().expect("a world runs")))
}

pub(crate) fn now() -> Instant {
    with(|world| world.now)
}

pub(crate) fn note(event: Event) {
    with(|world| world.note(event));
}

/// Notes what an application did or saw.
pub(crate) fn say((link, side): (usize, usize), what: impl fmt::Display) {
    note(Event::Said { link, side, what: what.to_string() });
}

/// A stream of numbers of one's own.
pub(crate) fn fork() -> Rng {
    with(|world| world.rng.fork())
}

pub(crate) fn spawn(name: &'static str, future: impl Future<Output = ()> + 'static) {
    let future: Pin<Box<dyn Future<Output = ()>>> = Box::pin(future);
    let waker = with(|world| {
        let id = world.tasks.len();
        let waker = Arc::new(TaskWaker { id, is_ready: AtomicBool::new(false) });
        world.tasks.push(Task { name, future: Some(future), waker: Arc::clone(&waker) });
        world.alive += 1;
        waker
    });
    waker.wake_by_ref();
}

pub(crate) fn sleep(duration: Duration) -> Sleep {
    Sleep { until: now() + duration, key: None }
}

/// Ready once its time has come.
pub(crate) struct Sleep {
    until: Instant,
    key: Option<Key>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        with(|world| {
            if let Some(key) = self.key.take() {
                world.cancel(key);
            }
            if world.now >= self.until {
                return Poll::Ready(());
            }
            self.key = Some(world.alarm(self.until, Alarm::Wake(cx.waker().clone())));
            Poll::Pending
        })
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            with(|world| world.cancel(key));
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "an instant to start from; nothing waits for it")]
fn start() -> Instant {
    Instant::now()
}

/// More polls than any moment needs.
const MAX_POLLS: usize = 200_000;

/// Longer than all deadlines and pauses of a world in a row.
const LIMIT: Duration = Duration::from_secs(600);
