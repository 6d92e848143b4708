//! The search: stateright's checker for the invariants, and the graph of what was reached for the goal.
//!
//! Stateright has no check of "from every state the goal can still be reached", so the states are walked a second time
//! to collect the steps that are not faults, and the goal is followed backwards over them. Both walks must count the
//! same states.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, DefaultHasher, Hash, Hasher};

use stateright::{Checker, HasDiscoveries, Model};

use crate::action::{Action, Kind};
use crate::model::LaneModel;
use crate::properties::{GOAL_IN_REACH, is_goal};
use crate::state::State;

/// What a search has found.
#[derive(Clone, Debug)]
pub struct Found {
    /// Distinct states.
    pub states: usize,
    /// Steps taken, also to states that were known.
    pub steps: usize,
    /// The most steps to a state.
    pub depth: usize,
    /// States where all is done.
    pub goals: usize,
    /// How often each kind of step was taken.
    pub kinds: Vec<usize>,
    /// What does not hold.
    pub violation: Option<Violation>,
}

/// Something that does not hold, and a shortest way there.
#[derive(Clone, Debug)]
pub struct Violation {
    /// Which property.
    pub property: &'static str,
    /// Step by step.
    pub trace: Vec<Action>,
}

/// Searches a model to exhaustion, or to the first thing that does not hold.
///
/// # Panics
///
/// When the two walks find different states: then one of them is wrong.
pub fn search(model: LaneModel) -> Found {
    let mut found = check(model, None);
    // What the checker reports may be a little deeper than the first.
    while let Some(violation) = &found.violation {
        let nearer = check(model, Some(violation.trace.len()));
        if nearer.violation.is_none() {
            return found;
        }
        found = nearer;
    }
    let graph = Graph::walk(model);
    assert_eq!(graph.states.len(), found.states, "two walks of one model differ");
    found.goals = graph.goals.len();
    found.kinds.clone_from(&graph.kinds);
    found.violation = graph.first_stuck().map(|stuck| Violation {
        property: GOAL_IN_REACH,
        trace: graph.trace(model, stuck),
    });
    found
}

/// Checks the invariants in all states that are fewer than `below` steps away.
fn check(model: LaneModel, below: Option<usize>) -> Found {
    // One thread: traces are shortest and counts always the same.
    let builder = model.checker().threads(1).finish_when(HasDiscoveries::AnyFailures);
    let builder = match below {
        // Stateright counts states, and leaves out those at the limit.
        Some(steps) => builder.target_max_depth(steps + 1),
        None => builder,
    };
    let checker = builder.spawn_bfs().join();
    let violations = checker.discoveries().into_iter().map(|(property, path)| Violation {
        property,
        trace: path.into_actions(),
    });
    Found {
        states: checker.unique_state_count(),
        steps: checker.state_count().saturating_sub(1),
        depth: checker.max_depth().saturating_sub(1),
        goals: 0,
        kinds: vec![0; Kind::ALL.len()],
        violation: violations.min_by_key(|violation| (violation.trace.len(), violation.property)),
    }
}

/// The states that can be reached, in the order of their distance, and the steps between them that are not faults.
struct Graph {
    /// By their hashes.
    states: Vec<u64>,
    /// From where each was first reached.
    parents: Vec<u32>,
    /// The two ends of each step.
    from: Vec<u32>,
    to: Vec<u32>,
    goals: Vec<u32>,
    kinds: Vec<usize>,
}

impl Graph {
    fn walk(model: LaneModel) -> Self {
        let mut graph = Self {
            states: Vec::new(),
            parents: Vec::new(),
            from: Vec::new(),
            to: Vec::new(),
            goals: Vec::new(),
            kinds: vec![0; Kind::ALL.len()],
        };
        let mut numbers: HashMap<u64, u32, BuildHasherDefault<HashItself>> = HashMap::default();
        let mut queue: VecDeque<State> = model.init_states().into();
        for state in &queue {
            numbers.insert(hash(state), graph.add(hash(state), 0));
        }
        let mut current = 0;
        let mut actions = Vec::new();
        while let Some(state) = queue.pop_front() {
            let is_goal = is_goal(&model, &state);
            if is_goal {
                graph.goals.push(current);
            }
            model.actions(&state, &mut actions);
            for action in actions.drain(..) {
                if let Some(count) = graph.kinds.get_mut(action.kind() as usize) {
                    *count += 1;
                }
                let Some(next) = model.next_state(&state, action) else {
                    continue;
                };
                let hash = hash(&next);
                let number = *numbers.entry(hash).or_insert_with(|| {
                    queue.push_back(next);
                    graph.add(hash, current)
                });
                if !is_goal && !action.is_fault() {
                    graph.from.push(current);
                    graph.to.push(number);
                }
            }
            current += 1;
        }
        graph
    }

    fn add(&mut self, hash: u64, parent: u32) -> u32 {
        let number = self.states.len();
        self.states.push(hash);
        self.parents.push(parent);
        u32::try_from(number).unwrap_or(u32::MAX)
    }

    /// The nearest state from which the goal cannot be reached.
    fn first_stuck(&self) -> Option<u32> {
        let count = self.states.len();
        let mut starts = vec![0_usize; count + 1];
        for to in &self.to {
            if let Some(start) = starts.get_mut(*to as usize + 1) {
                *start += 1;
            }
        }
        let mut sum = 0;
        for start in &mut starts {
            sum += *start;
            *start = sum;
        }
        let mut fill = starts.clone();
        let mut before = vec![0_u32; self.to.len()];
        for (from, to) in self.from.iter().zip(&self.to) {
            if let Some(at) = fill.get_mut(*to as usize) {
                if let Some(place) = before.get_mut(*at) {
                    *place = *from;
                }
                *at += 1;
            }
        }
        let mut reaches = vec![false; count];
        let mut open = self.goals.clone();
        while let Some(state) = open.pop() {
            let state = state as usize;
            match reaches.get_mut(state) {
                Some(known) if !*known => *known = true,
                _ => continue,
            }
            let range = starts.get(state).zip(starts.get(state + 1));
            let steps = range.and_then(|(start, end)| before.get(*start..*end));
            open.extend(steps.into_iter().flatten());
        }
        let stuck = reaches.iter().position(|reaches| !reaches);
        stuck.and_then(|stuck| u32::try_from(stuck).ok())
    }

    /// A shortest way to a state.
    fn trace(&self, model: LaneModel, state: u32) -> Vec<Action> {
        let mut way = vec![state];
        while let Some(last) = way.last().copied().filter(|last| *last > 0) {
            way.extend(self.parents.get(last as usize));
        }
        let hashes = way
            .iter()
            .rev()
            .skip(1)
            .filter_map(|number| self.states.get(*number as usize));
        let mut at = model.init_states().into_iter().next();
        let mut trace = Vec::new();
        for wanted in hashes {
            let steps = at.iter().flat_map(|state| model.next_steps(state));
            let step = steps.into_iter().find(|(_, next)| hash(next) == *wanted);
            let Some((action, next)) = step else { break };
            trace.push(action);
            at = Some(next);
        }
        trace
    }
}

/// States are told apart by 64 bits, by stateright too but by another hash: where the two walks count the same, no two
/// states were taken for one.
fn hash(state: &State) -> u64 {
    let mut hasher = DefaultHasher::new();
    state.hash(&mut hasher);
    hasher.finish()
}

/// Hashes are their own hash.
#[derive(Default)]
struct HashItself(u64);

impl Hasher for HashItself {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0 << 8 | u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}
