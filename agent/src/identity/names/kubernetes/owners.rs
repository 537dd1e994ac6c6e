//! What a pod belongs to: the chain of owners, at most two steps up.
//!
//! | the pod's controller | workload |
//! |---|---|
//! | ReplicaSet | the ReplicaSet's controller (Deployment, Rollout, …), else the ReplicaSet |
//! | Job | the Job's controller (CronJob, …), else the Job |
//! | Node: the mirror of a static pod | kind `Pod`, the pod's name |
//! | anything else: StatefulSet, DaemonSet, custom kinds | the controller as it is |
//! | none | kind `Pod`, the pod's name |
//!
//! A ReplicaSet or a Job is asked for by its name, once, and only for its metadata: nothing is listed or watched.
//! Until the answer is there, and where RBAC forbids to ask, the names tell: a Deployment calls its ReplicaSets
//! `NAME-HASH` and labels their pods `pod-template-hash=HASH`
//! (<https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#pod-template-hash-label>), a CronJob calls
//! its Jobs `NAME-MINUTES` by the scheduled time in minutes since 1970 (`getJobName` in its controller's source).

use std::collections::{HashMap, HashSet, VecDeque};

use super::{
    super::{Guess, Workload},
    error::Rule,
    object::{Meta, OwnerReference},
};

/// An owner that has an owner itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Middle {
    ReplicaSet,
    Job,
}

impl Middle {
    pub(super) const ALL: [Self; 2] = [Self::ReplicaSet, Self::Job];

    fn of(owner: &OwnerReference) -> Option<Self> {
        let (group, _version) = owner.api_version.split_once('/')?;
        match (group, owner.kind.as_str()) {
            ("apps", "ReplicaSet") => Some(Self::ReplicaSet),
            ("batch", "Job") => Some(Self::Job),
            _ => None,
        }
    }

    /// What asking for one takes.
    pub(super) fn rule(self) -> Rule {
        match self {
            Self::ReplicaSet => Rule { group: "apps", resource: "replicasets", verb: "get" },
            Self::Job => Rule { group: "batch", resource: "jobs", verb: "get" },
        }
    }
}

/// A question to the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lookup {
    pub middle: Middle,
    pub namespace: String,
    pub name: String,
    pub uid: String,
    /// What it is by its name, in case that nobody answers.
    guess: Workload,
}

impl Lookup {
    /// Where the object is.
    pub(super) fn path(&self) -> String {
        let Rule { group, resource, .. } = self.middle.rule();
        format!("/apis/{group}/v1/namespaces/{}/{resource}/{}", self.namespace, self.name)
    }

    /// What the object says. One of another uid is a successor of the same name.
    pub(super) fn answer(&self, found: Option<&Meta>) -> Workload {
        match found {
            Some(meta) if meta.uid == self.uid => match meta.controller() {
                Some(owner) => Workload { kind: owner.kind.clone(), name: owner.name.clone() },
                None => Workload { kind: self.kind().into(), name: self.name.clone() },
            },
            _ => self.guess.clone(),
        }
    }

    fn kind(&self) -> &'static str {
        match self.middle {
            Middle::ReplicaSet => "ReplicaSet",
            Middle::Job => "Job",
        }
    }
}

/// What has been learned about owners, and what is still to be asked. Both are bounded.
#[derive(Debug)]
pub(super) struct Owners {
    /// By the uid of the ReplicaSet or Job.
    known: HashMap<String, Workload>,
    /// Their uids, the oldest first.
    order: VecDeque<String>,
    wanted: VecDeque<Lookup>,
    /// The uids of those.
    asked: HashSet<String>,
    /// By `Middle`: whether an answer may be expected soon.
    hope: [bool; Middle::ALL.len()],
    limit: usize,
}

/// What a pod belongs to.
#[derive(Debug)]
pub(super) struct Belongs {
    pub workload: Workload,
    /// None once the answer is there, and where nobody has to be asked.
    pub guess: Option<Guess>,
    /// The owner whose answer may change it: its kind and its uid.
    pub owner: Option<(Middle, String)>,
}

impl Owners {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            known: HashMap::new(),
            order: VecDeque::new(),
            wanted: VecDeque::new(),
            asked: HashSet::new(),
            hope: [true; Middle::ALL.len()],
            limit,
        }
    }

    /// What the pod belongs to, as far as it is known now.
    pub(super) fn workload(&mut self, pod: &Meta) -> Belongs {
        let workload = by_names(pod);
        let Some(lookup) = lookup(pod, &workload) else {
            return Belongs { workload, guess: None, owner: None };
        };
        let (middle, uid) = (lookup.middle, lookup.uid.clone());
        let owner = Some((middle, uid.clone()));
        if let Some(workload) = self.known.get(&uid) {
            return Belongs { workload: workload.clone(), guess: None, owner };
        }
        if self.wanted.len() < self.limit && self.asked.insert(uid) {
            self.wanted.push_back(lookup);
        }
        Belongs { workload, guess: Some(self.guess(middle)), owner }
    }

    /// What a workload that is told by names is worth.
    pub(super) fn guess(&self, middle: Middle) -> Guess {
        if self.hope[middle as usize] { Guess::Asked } else { Guess::Stuck }
    }

    /// Whether that is other than before.
    pub(super) fn expect(&mut self, hope: [bool; Middle::ALL.len()]) -> bool {
        std::mem::replace(&mut self.hope, hope) != hope
    }

    /// The next question, of a kind that may be asked.
    pub(super) fn next(&mut self, may_ask: impl Fn(Middle) -> bool) -> Option<Lookup> {
        let place = self.wanted.iter().position(|lookup| may_ask(lookup.middle))?;
        self.wanted.remove(place)
    }

    /// There was no answer: it is asked again, after the others.
    pub(super) fn postpone(&mut self, lookup: Lookup) {
        self.wanted.push_back(lookup);
    }

    /// There was an answer.
    pub(super) fn learn(&mut self, lookup: &Lookup, workload: Workload) {
        self.asked.remove(&lookup.uid);
        if self.known.insert(lookup.uid.clone(), workload).is_none() {
            self.order.push_back(lookup.uid.clone());
        }
        if self.order.len() > self.limit
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }

    #[cfg(test)]
    pub(super) fn sizes(&self) -> (usize, usize) {
        (self.known.len().max(self.order.len()), self.asked.len().max(self.wanted.len()))
    }

    /// Questions without an answer.
    pub(super) fn waiting(&self) -> usize {
        self.asked.len()
    }
}

fn lookup(pod: &Meta, guess: &Workload) -> Option<Lookup> {
    let owner = pod.controller()?;
    let middle = Middle::of(owner)?;
    // Both go into a path: nothing that the API would not accept as a name.
    let is_name = |text: &str| {
        text.starts_with(|first: char| first.is_ascii_alphanumeric())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.'))
    };
    (is_name(&pod.namespace) && is_name(&owner.name)).then(|| Lookup {
        middle,
        namespace: pod.namespace.clone(),
        name: owner.name.clone(),
        uid: owner.uid.clone(),
        guess: guess.clone(),
    })
}

/// What the names tell.
fn by_names(pod: &Meta) -> Workload {
    let workload = |kind: &str, name: &str| Workload { kind: kind.into(), name: name.into() };
    let Some(owner) = pod.controller() else { return workload("Pod", &pod.name) };
    match Middle::of(owner) {
        Some(Middle::ReplicaSet) => {
            let hash = pod.labels.as_ref().and_then(|labels| labels.template_hash.as_deref());
            if let Some(deployment) = hash.and_then(|hash| without_suffix(&owner.name, hash)) {
                return workload("Deployment", deployment);
            }
        }
        Some(Middle::Job) => {
            if let Some(cron_job) = of_cron_job(&owner.name) {
                return workload("CronJob", cron_job);
            }
        }
        None if owner.kind == "Node" => return workload("Pod", &pod.name),
        None => {}
    }
    workload(&owner.kind, &owner.name)
}

fn without_suffix<'a>(name: &'a str, suffix: &str) -> Option<&'a str> {
    let front = name.strip_suffix(suffix)?.strip_suffix('-')?;
    (!front.is_empty() && !suffix.is_empty()).then_some(front)
}

/// Minutes from 2020 to 2100. A date like 20260131 lies outside.
const MINUTES: std::ops::Range<u32> = 26_297_280..68_374_080;

fn of_cron_job(job: &str) -> Option<&str> {
    let (name, minutes) = job.rsplit_once('-')?;
    let is_number = minutes.len() == 8 && minutes.bytes().all(|b| b.is_ascii_digit());
    (!name.is_empty() && is_number && MINUTES.contains(&minutes.parse().ok()?)).then_some(name)
}
