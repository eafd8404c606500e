//! What callers hold.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use mainstay_model::Nonce;
use tokio::sync::{mpsc, oneshot, watch};

use crate::drive;
use crate::machine::Machine;
use crate::outcome::{Outcome, StaleReply, Trouble, TroubleKind};
use crate::policy::Disagreements;
use crate::settings::{Settings, SettingsError};

/// A client of one cluster, with one session. Cheap to clone; clones share the session. The
/// connection is made when it is first needed, and ends once every clone is gone and everything has
/// its outcome.
#[derive(Clone)]
pub struct Client {
    asks: mpsc::UnboundedSender<NewAsk>,
    load: Arc<Load>,
    timeout: Duration,
    disagreements: watch::Receiver<Disagreements>,
}

/// A request or query on its way to the task.
pub(crate) struct NewAsk {
    pub(crate) body: Bytes,
    pub(crate) timeout: Duration,
    pub(crate) caller: Caller,
    /// Given back when the outcome is known.
    pub(crate) share: Share,
}

/// Who is to be told.
pub(crate) enum Caller {
    Request(oneshot::Sender<Outcome>),
    Query(oneshot::Sender<Result<Bytes, Trouble>>),
    QueryStale(oneshot::Sender<Result<StaleReply, Trouble>>),
}

/// How much has no outcome yet.
#[derive(Debug)]
struct Load {
    asks: AtomicUsize,
    bytes: AtomicUsize,
    asks_max: usize,
    bytes_max: usize,
}

/// One ask's part of the load.
pub(crate) struct Share {
    load: Arc<Load>,
    len: usize,
}

impl Share {
    /// A share for `len` bytes, if there is room. One ask is let in whatever its size.
    fn take(load: &Arc<Load>, len: usize) -> Option<Self> {
        let asks = load.asks.fetch_add(1, Ordering::Relaxed);
        let bytes = load.bytes.fetch_add(len, Ordering::Relaxed);
        let share = Self { load: Arc::clone(load), len };
        let fits = asks < load.asks_max && bytes.saturating_add(len) <= load.bytes_max;
        (fits || asks == 0).then_some(share)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.load.asks.fetch_sub(1, Ordering::Relaxed);
        self.load.bytes.fetch_sub(self.len, Ordering::Relaxed);
    }
}

impl Client {
    /// A client with these settings. Must be called within a tokio runtime, which its task runs on.
    ///
    /// # Errors
    /// [`SettingsError`]: a setting is empty or zero.
    ///
    /// # Panics
    /// Outside of a tokio runtime, or where the operating system has no random numbers.
    pub fn new(settings: Settings) -> Result<Self, SettingsError> {
        settings.check()?;
        let load = Arc::new(Load {
            asks: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            asks_max: settings.asks_max,
            bytes_max: settings.asks_bytes_max,
        });
        let (asks, taken) = mpsc::unbounded_channel();
        let timeout = settings.timeout;
        let addresses = settings.addresses.clone();
        let seed = random_u128() as u64;
        let machine = Machine::new(settings, Box::new(|| Nonce(random_u128())), seed);
        let (exposed, disagreements) = watch::channel(Disagreements::default());
        tokio::spawn(drive::drive(machine, addresses, taken, exposed));
        Ok(Self { asks, load, timeout, disagreements })
    }

    /// Has `body` carried out, once. Its place in the order is taken by the call; the future only
    /// waits, and may be dropped without taking the request back.
    pub fn request<B: Into<Bytes>>(
        &self,
        body: B,
    ) -> impl Future<Output = Outcome> + Send + use<B> {
        self.request_within(body.into(), self.timeout)
    }

    /// As [`Client::request`], with a time-out of its own.
    pub fn request_within(
        &self,
        body: Bytes,
        timeout: Duration,
    ) -> impl Future<Output = Outcome> + Send + use<> {
        let (sender, receiver) = oneshot::channel();
        let handed_over = self.hand_over(body, timeout, Caller::Request(sender));
        async move {
            match handed_over {
                Err(kind) => Outcome::NotDone(kind.into()),
                Ok(()) => {
                    receiver.await.unwrap_or_else(|_| Outcome::Unknown(TroubleKind::Closed.into()))
                }
            }
        }
    }

    /// Asks the service `body`, which must not change its state, and answers linearizably.
    ///
    /// # Errors
    /// [`Trouble`]: why there is no answer.
    pub fn query<B: Into<Bytes>>(
        &self,
        body: B,
    ) -> impl Future<Output = Result<Bytes, Trouble>> + Send + use<B> {
        self.query_within(body.into(), self.timeout)
    }

    /// As [`Client::query`], with a time-out of its own.
    ///
    /// # Errors
    /// [`Trouble`]: why there is no answer.
    pub fn query_within(
        &self,
        body: Bytes,
        timeout: Duration,
    ) -> impl Future<Output = Result<Bytes, Trouble>> + Send + use<> {
        let (sender, receiver) = oneshot::channel();
        let handed_over = self.hand_over(body, timeout, Caller::Query(sender));
        async move {
            handed_over?;
            receiver.await.unwrap_or_else(|_| Err(TroubleKind::Closed.into()))
        }
    }

    /// Asks the service `body` at whichever replica is reached, in the state in which that is: an
    /// answer comes at once, also from a replica that is cut off from the others, and may be old. It
    /// need not show what this client has written. [`StaleReply`] says how old it is; to ask a certain
    /// replica, give a client its address alone.
    ///
    /// # Errors
    /// [`Trouble`]: why there is no answer.
    pub fn query_stale<B: Into<Bytes>>(
        &self,
        body: B,
    ) -> impl Future<Output = Result<StaleReply, Trouble>> + Send + use<B> {
        self.query_stale_within(body.into(), self.timeout)
    }

    /// As [`Client::query_stale`], with a time-out of its own.
    ///
    /// # Errors
    /// [`Trouble`]: why there is no answer.
    pub fn query_stale_within(
        &self,
        body: Bytes,
        timeout: Duration,
    ) -> impl Future<Output = Result<StaleReply, Trouble>> + Send + use<> {
        let (sender, receiver) = oneshot::channel();
        let handed_over = self.hand_over(body, timeout, Caller::QueryStale(sender));
        async move {
            handed_over?;
            receiver.await.unwrap_or_else(|_| Err(TroubleKind::Closed.into()))
        }
    }

    /// Which replicas answered differently, with [`crate::ReplyPolicy::Majority`]: the service is not
    /// deterministic, or one of them is broken. Also those whose reply came after a quorum's.
    #[must_use]
    pub fn disagreements(&self) -> Disagreements {
        self.disagreements.borrow().clone()
    }

    /// Waits until there are more than `total` disagreements; for ever, where there are never.
    pub fn disagreed(&self, total: u64) -> impl Future<Output = Disagreements> + Send + use<> {
        let mut disagreements = self.disagreements.clone();
        async move {
            let more = disagreements.wait_for(|now| now.total > total).await;
            let more = more.map(|more| more.clone());
            match more {
                Ok(more) => more,
                // The client has ended: there will not be any more.
                Err(_) => std::future::pending().await,
            }
        }
    }

    fn hand_over(&self, body: Bytes, timeout: Duration, caller: Caller) -> Result<(), TroubleKind> {
        let share = Share::take(&self.load, body.len()).ok_or(TroubleKind::Busy)?;
        let ask = NewAsk { body, timeout, caller, share };
        self.asks.send(ask).map_err(|_| TroubleKind::Closed)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("load", &self.load).finish_non_exhaustive()
    }
}

fn random_u128() -> u128 {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the operating system gives random numbers");
    u128::from_le_bytes(bytes)
}
