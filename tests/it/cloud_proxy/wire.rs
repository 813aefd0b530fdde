//! A proxy in front of a server that counts requests and answers those that it is told to in its own way.

use super::message::{Answer, Question, flipped};
use crate::soak::Dice;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// The server fails at it.
    InternalError,
    /// The server has too much to do.
    SlowDown,
    /// The credentials were good a moment ago.
    Expired,
    /// Nobody answers, and nothing was done.
    Silence,
    /// It was done, and nobody answers.
    LostAnswer,
    /// The connection breaks, and nothing was done.
    Reset,
    /// It was done, and the connection breaks.
    LateReset,
    /// The answer ends half-way.
    Truncated,
    /// The answer has more in it than it should.
    Surplus,
    /// The answer is of another range than the one asked for.
    WrongRange,
    /// 200, with an error in the body, and nothing was done.
    ErrorInside,
    /// What is listed is how it was before, or nothing.
    StaleListing,
    /// One bit of the answer is another.
    FlippedAnswer,
    /// One bit of what is sent to the server is another.
    FlippedQuestion,
}

impl Fault {
    /// All there are.
    pub(crate) const ALL: [Self; 14] = [
        Self::InternalError,
        Self::SlowDown,
        Self::Expired,
        Self::Silence,
        Self::LostAnswer,
        Self::Reset,
        Self::LateReset,
        Self::Truncated,
        Self::Surplus,
        Self::WrongRange,
        Self::ErrorInside,
        Self::StaleListing,
        Self::FlippedAnswer,
        Self::FlippedQuestion,
    ];

    /// Whether a patience must run out before anything happens.
    pub(crate) fn is_waited_for(self) -> bool {
        matches!(self, Self::Silence | Self::LostAnswer)
    }
}

/// Which requests are spoilt, and how.
#[derive(Debug)]
pub(crate) enum Plan {
    /// None.
    Honest,
    /// The one with this number, from 0, and no other.
    Once(usize, Fault),
    /// That one and all after it.
    EverSince(usize, Fault),
    /// Each by chance, so many in a hundred, in one of these ways.
    Chance(usize, Vec<Fault>, Dice),
}

/// What came by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Tally {
    /// How many requests.
    pub(crate) requests: usize,
    /// How many of them were spoilt.
    pub(crate) spoilt: usize,
}

#[derive(Debug)]
struct State {
    plan: Plan,
    tally: Tally,
    /// The first answer to each question for a listing.
    listings: BTreeMap<String, Answer>,
}

/// The proxy; it runs on the test's runtime.
pub(crate) struct Proxy {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// In front of this server.
    pub(crate) async fn start(server: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let address = listener.local_addr().expect("a socket");
        let state = State { plan: Plan::Honest, tally: Tally::default(), listings: BTreeMap::new() };
        let state = Arc::new(Mutex::new(state));
        let shared = Arc::clone(&state);
        let accepting = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                connections.spawn(converse(client, server, Arc::clone(&shared)));
            }
        });
        Self { address, state, accepting }
    }

    /// Where it listens.
    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Counts from 0 again, and does this from now on.
    pub(crate) fn follow(&self, plan: Plan) {
        let mut state = lock(&self.state);
        (state.plan, state.tally) = (plan, Tally::default());
    }

    /// What came by since.
    pub(crate) fn tally(&self) -> Tally {
        lock(&self.state).tally
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().expect("no holder panicked")
}

impl State {
    /// The number of a request that came just now, and what becomes of it.
    fn decide(&mut self) -> (usize, Option<Fault>) {
        let number = self.tally.requests;
        self.tally.requests += 1;
        let fault = match &mut self.plan {
            Plan::Honest => None,
            Plan::Once(at, fault) => (number == *at).then_some(*fault),
            Plan::EverSince(at, fault) => (number >= *at).then_some(*fault),
            Plan::Chance(percent, faults, dice) => {
                let hit = dice.below(100) < *percent;
                hit.then(|| faults[dice.below(faults.len())])
            }
        };
        (number, fault)
    }

    /// A listing as it was before, or with nothing in it; `None` where that is what it is.
    fn stale(&self, question: &Question, now: &Answer) -> Option<Answer> {
        let before = self.listings.get(question.target()).filter(|before| before.body != now.body);
        before.cloned().or_else(|| now.with_nothing_listed())
    }
}

/// How an answer goes out.
enum Reply {
    Whole(Answer),
    /// These bytes, and then the connection ends.
    Part(Vec<u8>),
    Silence,
    Reset,
}

async fn converse(mut client: TcpStream, server: SocketAddr, state: Arc<Mutex<State>>) {
    let mut seen = Vec::new();
    while let Some(question) = Question::read(&mut client, &mut seen).await {
        let (number, fault) = lock(&state).decide();
        let sent = match reply(question, (number, fault), server, &state).await {
            Reply::Whole(answer) => client.write_all(&answer.to_bytes()).await,
            Reply::Part(bytes) => {
                let _client_may_leave = client.write_all(&bytes).await;
                return;
            }
            Reply::Silence => {
                // Until the client gives up.
                let _gone = client.read(&mut [0]).await;
                return;
            }
            Reply::Reset => {
                client.set_zero_linger().expect("a socket");
                return;
            }
        };
        if sent.is_err() {
            return;
        }
    }
}

/// What is said to a request. Where the fault cannot befall it, the truth.
async fn reply(
    mut question: Question,
    (number, fault): (usize, Option<Fault>),
    server: SocketAddr,
    state: &Mutex<State>,
) -> Reply {
    let count_spoilt = || lock(state).tally.spoilt += 1;
    let early = match fault {
        Some(Fault::InternalError) => {
            Some(Reply::Whole(Answer::failure(&question, "500 Internal Server Error", "InternalError")))
        }
        Some(Fault::SlowDown) => Some(Reply::Whole(Answer::failure(&question, "503 Slow Down", "SlowDown"))),
        Some(Fault::Expired) => Some(Reply::Whole(Answer::failure(&question, "400 Bad Request", "ExpiredToken"))),
        Some(Fault::ErrorInside) => Some(Reply::Whole(Answer::failure_inside(&question))),
        Some(Fault::Silence) => Some(Reply::Silence),
        Some(Fault::Reset) => Some(Reply::Reset),
        Some(Fault::FlippedQuestion) if !question.body.is_empty() => {
            question.body = flipped(&question.body, number);
            count_spoilt();
            None
        }
        _ => None,
    };
    if let Some(reply) = early {
        count_spoilt();
        return reply;
    }
    let Some(answer) = question.ask(server).await else { return Reply::Reset };
    let spoilt = match fault {
        Some(Fault::LostAnswer) => Some(Reply::Silence),
        Some(Fault::LateReset) => Some(Reply::Reset),
        Some(Fault::Truncated) => Some(Reply::Part(answer.half())),
        Some(Fault::Surplus) => answer.with_surplus(&question).map(Reply::Whole),
        Some(Fault::WrongRange) => answer.with_wrong_range().map(Reply::Whole),
        Some(Fault::FlippedAnswer) => answer.with_flipped_bit(number).map(Reply::Whole),
        Some(Fault::StaleListing) if question.is_listing() => lock(state).stale(&question, &answer).map(Reply::Whole),
        _ => None,
    };
    if let Some(reply) = spoilt {
        count_spoilt();
        return reply;
    }
    if question.is_listing() {
        lock(state).listings.entry(question.target().to_owned()).or_insert_with(|| answer.clone());
    }
    Reply::Whole(answer)
}
