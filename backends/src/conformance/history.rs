//! Whether what clients saw of one key's versions can have happened one call after the other.
//!
//! A [history](Call) is linearizable if its calls can be put in an order in which each is answered as the model
//! answers, and no call comes before one that had ended when it began (Herlihy and Wing, "Linearizability", 1990). The
//! search is that of Wing and Gong with Lowe's memory of what was tried ("Testing for linearizability", 2017).

mod model;
#[cfg(test)]
mod tests;

use std::{
    collections::{HashSet, hash_map::DefaultHasher},
    fmt,
    hash::{Hash as _, Hasher as _},
};

use self::model::Model;
pub use self::model::{Content, Listed, Op, Reply};

/// States that are tried before a history is given up as undecided.
pub const MAX_STATES: usize = 4_000_000;

/// One call of one client on one key.
#[derive(Debug, Clone)]
pub struct Call {
    pub client: usize,
    /// When it began and ended, on one clock for all clients.
    pub invoked: u64,
    /// `None`: the answer was lost. It takes effect at any time after, or never.
    pub returned: Option<(u64, Reply)>,
    pub op: Op,
}

/// A history that cannot have happened, or was not decided.
pub struct Violation {
    /// As far as any order went.
    accepted: Vec<Call>,
    /// The versions then.
    state: String,
    /// What had begun by then and fits nowhere.
    stuck: Vec<Call>,
    undecided: bool,
}

/// Searches for an order.
pub fn check(calls: &[Call]) -> Result<(), Violation> {
    Search::new(calls).run(MAX_STATES)
}

/// Calls not yet in the order, as a list of their beginnings and ends by time; entry 0 is the head.
struct Search<'a> {
    calls: &'a [Call],
    events: Vec<Event>,
    next: Vec<usize>,
    previous: Vec<usize>,
}

#[derive(Clone, Copy)]
enum Event {
    Head,
    /// Of a call, and where its end is in the list.
    Begin {
        call: usize,
        end: usize,
    },
    End,
}

impl<'a> Search<'a> {
    fn new(calls: &'a [Call]) -> Self {
        // At equal times what begins comes first: calls that touch count as concurrent.
        let mut order: Vec<(u64, bool, usize)> = Vec::new();
        for (call, Call { invoked, returned, .. }) in calls.iter().enumerate() {
            order.push((*invoked, false, call));
            order.push((returned.as_ref().map_or(u64::MAX, |(time, _)| *time), true, call));
        }
        order.sort_unstable();
        let mut events = vec![Event::Head];
        let mut begins = vec![0; calls.len()];
        for (_, is_end, call) in order {
            if is_end {
                let end = events.len();
                events[begins[call]] = Event::Begin { call, end };
                events.push(Event::End);
            } else {
                begins[call] = events.len();
                events.push(Event::Begin { call, end: 0 });
            }
        }
        let count = events.len();
        Self {
            calls,
            events,
            // The last one is followed by the head.
            next: (1..=count).map(|n| n % count).collect(),
            previous: (0..count).map(|n| (n + count - 1) % count).collect(),
        }
    }

    fn unlink(&mut self, at: usize) {
        let (before, after) = (self.previous[at], self.next[at]);
        self.next[before] = after;
        self.previous[after] = before;
    }

    /// Undoes the last [`unlink`](Self::unlink) that is not undone.
    fn relink(&mut self, at: usize) {
        let (before, after) = (self.previous[at], self.next[at]);
        self.next[before] = at;
        self.previous[after] = at;
    }

    fn run(mut self, max_states: usize) -> Result<(), Violation> {
        let mut model = Model::default();
        let mut placed = vec![0_u64; self.calls.len().div_ceil(64)];
        let mut order: Vec<(usize, Model)> = Vec::new();
        let mut seen = HashSet::new();
        let mut furthest: (Vec<usize>, Model) = (Vec::new(), Model::default());
        let mut at = self.next[0];
        while self.next[0] != 0 {
            match self.events[at] {
                Event::Begin { call, end } => {
                    let Call { op, returned, .. } = &self.calls[call];
                    let reply = returned.as_ref().map(|(_, reply)| reply);
                    at = match model.step(op, reply) {
                        Some(after) if self.is_new(&mut seen, &mut placed, call, &after) => {
                            if seen.len() > max_states {
                                return Err(self.violation(furthest, true));
                            }
                            order.push((at, std::mem::replace(&mut model, after)));
                            self.unlink(at);
                            self.unlink(end);
                            if order.len() > furthest.0.len() {
                                furthest = (order.iter().map(|(at, _)| *at).collect(), model.clone());
                            }
                            self.next[0]
                        }
                        _ => self.next[at],
                    };
                }
                // A call has ended that is not in the order: something before it was placed wrongly.
                Event::End | Event::Head => {
                    let Some((last, before)) = order.pop() else {
                        return Err(self.violation(furthest, false));
                    };
                    model = before;
                    if let Event::Begin { call, end } = self.events[last] {
                        placed[call / 64] &= !(1 << (call % 64));
                        self.relink(end);
                        self.relink(last);
                    }
                    at = self.next[last];
                }
            }
        }
        Ok(())
    }

    /// Marks `call` as placed, unless the same calls have led to the same state before.
    fn is_new(&self, seen: &mut HashSet<(u64, u64)>, placed: &mut [u64], call: usize, after: &Model) -> bool {
        placed[call / 64] |= 1 << (call % 64);
        let digest = |salt: u8| {
            let mut hasher = DefaultHasher::new();
            (salt, &*placed, after).hash(&mut hasher);
            hasher.finish()
        };
        let new = seen.insert((digest(0), digest(1)));
        if !new {
            placed[call / 64] &= !(1 << (call % 64));
        }
        new
    }

    fn violation(&self, (order, model): (Vec<usize>, Model), undecided: bool) -> Violation {
        let call_at = |at: &usize| match self.events[*at] {
            Event::Begin { call, .. } => Some(call),
            Event::End | Event::Head => None,
        };
        let accepted: Vec<usize> = order.iter().filter_map(call_at).collect();
        let rest = (0..self.calls.len()).filter(|call| !accepted.contains(call));
        let first_end = rest
            .clone()
            .filter_map(|call| self.calls[call].returned.as_ref().map(|(time, _)| *time))
            .min()
            .unwrap_or(u64::MAX);
        let stuck = rest.filter(|call| self.calls[*call].invoked <= first_end);
        Violation {
            stuck: stuck.map(|call| self.calls[call].clone()).collect(),
            accepted: accepted.iter().map(|call| self.calls[*call].clone()).collect(),
            state: format!("{model:?}"),
            undecided,
        }
    }
}

impl fmt::Debug for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// Of those that fit: the last ones are what matters.
        const SHOWN: usize = 25;
        let skipped = self.accepted.len().saturating_sub(SHOWN);
        let what = if self.undecided {
            "not decided within the bound"
        } else {
            "not linearizable"
        };
        writeln!(f, "{what}; {} calls fit, the last of them:", self.accepted.len())?;
        for call in &self.accepted[skipped..] {
            writeln!(f, "    {call}")?;
        }
        writeln!(f, "  the versions then, the newest first: {}", self.state)?;
        writeln!(f, "  none of these fits next:")?;
        for call in &self.stuck {
            writeln!(f, "    {call}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            client,
            invoked,
            returned,
            op,
        } = self;
        match returned {
            Some((time, reply)) => write!(f, "[{invoked}..{time}] client {client}: {op:?} -> {reply:?}"),
            None => write!(f, "[{invoked}..] client {client}: {op:?} -> lost"),
        }
    }
}
