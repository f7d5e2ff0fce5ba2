//! Callers and gifts in this process, with a file if there is a `data_dir`.
//!
//! Requests look callers up under a lock that no writer holds while it waits for the disk.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::{Arc, Mutex};

use foldhash::fast::RandomState;

use super::caller_record::{Change, Page, Record};
use super::edit::{Edit, KeptGift};
use super::file::DirectoryFile;
use super::gift::{
    ErasedGifts, GIFT_KEPT, GIFT_LOG_LEN_MAX, GIFT_LOG_LIFE, Gift, GiftChange, GiftEvent, GiftState,
};
use crate::clock::Timestamp;
use crate::lock::lock;
use crate::policy::{Lineage, Member};

/// Maximum number of callers in this process.
const CALLERS_MAX: usize = 100_000;

/// Maximum number of gifts in this process, those included that have ended and are still known.
const GIFTS_MAX: usize = 10_000;

/// A directory in this process.
#[derive(Debug, Default)]
pub struct EmbeddedDirectory {
    /// Writers hold it, one at a time, while they wait for the disk. None: all ends with the process.
    file: Mutex<Option<DirectoryFile>>,
    content: Mutex<Content>,
}

#[derive(Debug, Default)]
struct Content {
    callers: HashMap<Arc<str>, Record, RandomState>,
    /// Ordered, for pages.
    names: BTreeSet<Arc<str>>,
    /// By id.
    gifts: BTreeMap<String, KeptGift>,
    /// Their ids by whether they are pending, and the time at which they are due or forgotten.
    gift_times: BTreeSet<(bool, Timestamp, String)>,
    /// By caller, the youngest first.
    logs: HashMap<Arc<str>, Vec<GiftEvent>, RandomState>,
    /// Their callers by the time at which they are forgotten.
    log_ends: BTreeSet<(Timestamp, Arc<str>)>,
    /// The revision of the last change of a caller.
    revision: u64,
}

/// The reason that a change was not made.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    #[error("too many {what}; at most {max} are kept without Redis")]
    Full { what: &'static str, max: usize },
    #[error("the file of callers can't be written: {0}")]
    File(String),
}

impl EmbeddedDirectory {
    /// The directory of a file with that content.
    pub fn of(file: DirectoryFile, content: Edit) -> Self {
        let mut all = Content::default();
        all.apply(content);
        Self { file: Mutex::new(Some(file)), content: Mutex::new(all) }
    }

    /// A caller and its parents, nearest first.
    pub fn lineage(&self, name: &str) -> Lineage {
        let content = lock(&self.content);
        let mut lineage = Lineage::default();
        let mut found = content.callers.get_key_value(name);
        while let Some((name, record)) = found {
            lineage.members.push(Member { name: name.clone(), caller: record.caller.clone() });
            found = lineage.next().and_then(|name| content.callers.get_key_value(name));
        }
        lineage
    }

    /// The record of a caller.
    pub fn read(&self, name: &str) -> Option<Record> {
        lock(&self.content).callers.get(name).cloned()
    }

    /// The next `limit` callers after the name, ordered.
    pub fn page(&self, after: &str, limit: usize) -> Page {
        let content = lock(&self.content);
        let rest = content.names.range::<str, _>((Bound::Excluded(after), Bound::Unbounded));
        let record = |name: &Arc<str>| {
            content.callers.get(name).map(|record| (name.to_string(), record.clone()))
        };
        let callers: Vec<_> = rest.filter_map(record).take(limit).collect();
        let last = callers.last().map(|(name, _)| name.clone());
        let next = last.filter(|_| limit <= callers.len());
        Page { callers, next }
    }

    /// Makes a change and returns its revision. None if the record, or one on which it depends, was changed since its
    /// writer has read it. With a file it blocks on the disk for some milliseconds.
    ///
    /// # Errors
    /// If there are too many callers, or the file can't be written.
    pub fn write(&self, change: Change<'_>) -> Result<Option<u64>, EmbeddedError> {
        self.edit(|content| {
            let Some(edit) = content.changed(change)? else { return Ok((None, Edit::default())) };
            Ok((Some(edit.revision), edit))
        })
    }

    /// The gift of an id.
    pub fn gift(&self, id: &str) -> Option<Gift> {
        lock(&self.content).gifts.get(id).map(|kept| kept.gift.clone())
    }

    /// Changes a gift, unless it or the caller that gets its hits is another one than its writer saw: then false. If it is
    /// pending, it is due at `at`; else it was changed then.
    ///
    /// # Errors
    /// If there are too many gifts, or the file can't be written.
    pub fn write_gift(&self, change: GiftChange<'_>, at: Timestamp) -> Result<bool, EmbeddedError> {
        self.edit(|content| {
            let edit = content.gift_changed(change, at)?;
            Ok((edit.is_some(), edit.unwrap_or_default()))
        })
    }

    /// Some ids of pending gifts that are due, the longest due first.
    pub fn due_gifts(&self, now: Timestamp, max: usize) -> Vec<String> {
        let content = lock(&self.content);
        content.gifts_until(true, now).take(max).map(str::to_owned).collect()
    }

    /// What a caller is told of gifts, the youngest first.
    pub fn gift_log(&self, caller: &str) -> Vec<GiftEvent> {
        lock(&self.content).logs.get(caller).cloned().unwrap_or_default()
    }

    /// Erases a caller from all gifts but pending ones, from the lines of other callers, and its own lines.
    ///
    /// # Errors
    /// If the file can't be written; then nothing was erased.
    pub fn erase_gifts(&self, caller: &str) -> Result<ErasedGifts, EmbeddedError> {
        self.edit(|content| Ok(content.erased(caller)))
    }

    /// Makes an edit, in the file first.
    fn edit<T>(
        &self,
        decide: impl Fn(&Content) -> Result<(T, Edit), EmbeddedError>,
    ) -> Result<T, EmbeddedError> {
        // Nothing else edits the content while this lock is held.
        let mut file = lock(&self.file);
        let (mut answer, mut edit) = decide(&lock(&self.content))?;
        if edit.is_empty() {
            return Ok(answer);
        }
        if self.reread(&mut file).map_err(EmbeddedError::File)? {
            (answer, edit) = decide(&lock(&self.content))?;
        }
        edit.revision = edit.revision.max(lock(&self.content).revision);
        match &mut *file {
            Some(written) => {
                if let Err(reason) = written.write(&edit) {
                    // The edit may be in the file, and then it holds from now on as after a restart.
                    self.reread(&mut file).ok();
                    return Err(EmbeddedError::File(reason));
                }
            }
            None if lock(&self.content).revision == 0 => {
                tracing::warn!(
                    "changes of callers end with the process: set data_dir or redis_url"
                );
            }
            None => {}
        }
        lock(&self.content).apply(edit);
        Ok(answer)
    }

    /// Takes over what the file has, if it is closed: at the first edit, and after a failure. Returns whether it was.
    fn reread(&self, file: &mut Option<DirectoryFile>) -> Result<bool, String> {
        let Some(file) = file else { return Ok(false) };
        let found = file.reopened()?;
        let was_closed = found.is_some();
        if let Some(found) = found {
            let mut content = Content::default();
            content.apply(found);
            *lock(&self.content) = content;
        }
        Ok(was_closed)
    }
}

impl Content {
    /// The edit of a change; None if a record is not as its writer has read it.
    fn changed(&self, change: Change<'_>) -> Result<Option<Edit>, EmbeddedError> {
        let revision = |name: &str| self.callers.get(name).map_or(0, |record| record.revision);
        let is_as_seen = revision(change.name) == change.seen
            && change.depends_on.iter().all(|(name, seen)| revision(name) == *seen);
        if !is_as_seen {
            return Ok(None);
        }
        if change.seen == 0 && change.caller.is_some() && CALLERS_MAX <= self.callers.len() {
            return Err(EmbeddedError::Full { what: "callers", max: CALLERS_MAX });
        }
        let revision = self.revision + 1;
        let record = |caller: &_| Record { caller: Arc::new(Clone::clone(caller)), revision };
        let callers = vec![(change.name.into(), change.caller.map(record))];
        Ok(Some(Edit { revision, callers, ..Edit::default() }))
    }

    fn gift_changed(
        &self,
        change: GiftChange<'_>,
        at: Timestamp,
    ) -> Result<Option<Edit>, EmbeddedError> {
        let GiftChange { seen, gift, credit, log } = change;
        if self.gifts.get(&gift.id).map(|kept| &kept.gift) != seen {
            return Ok(None);
        }
        let mut edit = match credit {
            None => Edit::default(),
            Some(credit) => match self.changed(credit)? {
                Some(edit) => edit,
                None => return Ok(None),
            },
        };
        self.forget_old(at, &mut edit);
        if seen.is_none() && GIFTS_MAX <= self.gifts.len() - edit.gifts.len() {
            return Err(EmbeddedError::Full { what: "gifts", max: GIFTS_MAX });
        }
        let is_pending = gift.state == GiftState::Pending;
        let at = if is_pending { at } else { at.after(GIFT_KEPT) };
        edit.gifts.push((gift.id.clone(), Some(KeptGift { gift: gift.clone(), at })));
        for event in log {
            let known = self.logs.get(&event.caller).into_iter().flatten();
            let events = std::iter::once(event).chain(known).take(GIFT_LOG_LEN_MAX);
            edit.logs.push((event.caller.clone(), Some(events.cloned().collect())));
        }
        Ok(Some(edit))
    }

    /// Removes gifts that ended long ago, and logs without a line since.
    fn forget_old(&self, now: Timestamp, edit: &mut Edit) {
        edit.gifts.extend(self.gifts_until(false, now).map(|id| (id.to_owned(), None)));
        let old = self.log_ends.iter().take_while(|(end, _)| *end <= now);
        edit.logs.extend(old.map(|(_, caller)| (caller.clone(), None)));
    }

    /// The gifts that are due, or to be forgotten, the longest first.
    fn gifts_until(&self, are_pending: bool, now: Timestamp) -> impl Iterator<Item = &str> {
        let first = (are_pending, Timestamp::default(), String::new());
        let times = self.gift_times.range(first..);
        let times = times.take_while(move |(known, at, _)| *known == are_pending && *at <= now);
        times.map(|(_, _, id)| id.as_str())
    }

    fn erased(&self, caller: &str) -> (ErasedGifts, Edit) {
        let (mut erased, mut edit) = (ErasedGifts::default(), Edit::default());
        for (id, kept) in &self.gifts {
            if kept.gift.from != caller && kept.gift.to != caller {
                continue;
            }
            if kept.gift.state == GiftState::Pending {
                erased.is_pending = true;
                continue;
            }
            let mut kept = kept.clone();
            let names = [&mut kept.gift.from, &mut kept.gift.to];
            names.into_iter().filter(|name| **name == caller).for_each(String::clear);
            edit.gifts.push((id.clone(), Some(kept)));
            erased.count += 1;
        }
        for (of, log) in &self.logs {
            if **of == *caller {
                edit.logs.push((of.clone(), None));
                erased.count += 1;
                continue;
            }
            let mut log = log.clone();
            let of_caller = log.iter_mut().filter(|event| event.with == caller);
            let lines = of_caller.map(|event| event.with.clear()).count();
            if 0 < lines {
                edit.logs.push((of.clone(), Some(log)));
                erased.count += lines as u64;
            }
        }
        (erased, edit)
    }

    fn apply(&mut self, edit: Edit) {
        self.revision = self.revision.max(edit.revision);
        for (name, record) in edit.callers {
            match record {
                Some(record) => {
                    self.names.insert(name.clone());
                    self.callers.insert(name, record);
                }
                None => {
                    self.names.remove(&name);
                    self.callers.remove(&name);
                }
            }
        }
        for (id, kept) in edit.gifts {
            if let Some(before) = self.gifts.remove(&id) {
                self.gift_times.remove(&before.time(&id));
            }
            if let Some(kept) = kept {
                self.gift_times.insert(kept.time(&id));
                self.gifts.insert(id, kept);
            }
        }
        for (caller, log) in edit.logs {
            if let Some(before) = self.logs.remove(&caller) {
                self.log_ends.remove(&(log_end(&before), caller.clone()));
            }
            if let Some(log) = log {
                self.log_ends.insert((log_end(&log), caller.clone()));
                self.logs.insert(caller, log);
            }
        }
    }
}

impl KeptGift {
    /// Where it is among the times of gifts.
    fn time(&self, id: &str) -> (bool, Timestamp, String) {
        (self.gift.state == GiftState::Pending, self.at, id.to_owned())
    }
}

/// When a log is forgotten.
fn log_end(log: &[GiftEvent]) -> Timestamp {
    log.iter()
        .map(|event| event.at)
        .max()
        .map_or(Timestamp::default(), |at| at.after(GIFT_LOG_LIFE))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tempfile::TempDir;

    use super::*;
    use crate::policy::Caller;
    use crate::store::GiftEventKind;

    const NOW: Timestamp = Timestamp::from_ms(1_800_000_000_000);

    fn change<'a>(name: &'a str, seen: u64, caller: Option<&'a Caller>) -> Change<'a> {
        Change { name, seen, depends_on: &[], caller }
    }

    fn child(parent: &str) -> Caller {
        Caller { parent: Some(parent.into()), ..Caller::default() }
    }

    fn gift(id: &str, state: GiftState) -> Gift {
        Gift {
            id: id.to_owned(),
            from: "ann".to_owned(),
            to: "bob".to_owned(),
            limit: "tokens".to_owned(),
            hits: 4,
            bonus: "launch".to_owned(),
            until: Timestamp::MAX,
            domain: "d".to_owned(),
            entries: vec![("kind".to_owned(), "a\nb".to_owned())],
            at: NOW,
            state,
        }
    }

    fn event(caller: &str, with: &str, at: Timestamp) -> GiftEvent {
        GiftEvent {
            caller: caller.into(),
            at,
            kind: GiftEventKind::Given,
            gift: "g".to_owned(),
            limit: "tokens".to_owned(),
            bonus: "launch".to_owned(),
            hits: 4,
            with: with.to_owned(),
        }
    }

    fn write_gift(
        directory: &EmbeddedDirectory,
        (seen, gift): (Option<&Gift>, &Gift),
        log: &[GiftEvent],
        at: Timestamp,
    ) -> bool {
        let change = GiftChange { seen, gift, credit: None, log };
        directory.write_gift(change, at).unwrap()
    }

    #[test]
    fn a_change_is_made_if_nothing_was_changed_since_it_was_read() {
        let directory = EmbeddedDirectory::default();
        let plain = Caller::default();
        let write = |change| directory.write(change).unwrap();
        assert_eq!(write(change("acme", 0, Some(&plain))), Some(1));
        assert_eq!(write(change("acme", 0, Some(&plain))), None);
        let of_acme = child("acme");
        let depends = |revision| [(Arc::from("acme"), revision)];
        let (old, known) = (depends(2), depends(1));
        let added = change("ann", 0, Some(&of_acme));
        assert_eq!(write(Change { depends_on: &old, ..added }), None);
        assert_eq!(write(Change { depends_on: &known, ..added }), Some(2));
        let lineage = directory.lineage("ann");
        let names: Vec<_> = lineage.members.iter().map(|member| &*member.name).collect();
        assert_eq!(names, ["ann", "acme"]);
        assert_eq!(write(change("ann", 2, None)), Some(3));
        assert_eq!(write(change("ann", 0, Some(&plain))), Some(4));
        assert!(directory.lineage("nobody").members.is_empty());
    }

    #[test]
    fn a_full_directory_refuses_new_callers_and_changes_known_ones() {
        let directory = EmbeddedDirectory::default();
        let plain = Caller::default();
        for number in 0..CALLERS_MAX {
            directory.write(change(&format!("c{number}"), 0, Some(&plain))).unwrap();
        }
        let refused = directory.write(change("one", 0, Some(&plain))).unwrap_err();
        assert_eq!(refused.to_string(), "too many callers; at most 100000 are kept without Redis");
        assert!(directory.write(change("c0", 1, None)).unwrap().is_some());
        assert!(directory.write(change("one", 0, Some(&plain))).unwrap().is_some());
    }

    #[test]
    fn a_gift_goes_on_from_where_its_writer_saw_it_with_the_hits_in_the_same_step() {
        let directory = EmbeddedDirectory::default();
        let plain = Caller::default();
        directory.write(change("bob", 0, Some(&plain))).unwrap();
        let (pending, done) = (gift("g", GiftState::Pending), gift("g", GiftState::Done));
        assert!(write_gift(&directory, (None, &pending), &[], NOW));
        assert!(!write_gift(&directory, (None, &pending), &[], NOW));
        let credit = |seen| GiftChange {
            seen: Some(&pending),
            gift: &done,
            credit: Some(change("bob", seen, Some(&plain))),
            log: &[],
        };
        assert!(!directory.write_gift(credit(2), NOW).unwrap());
        assert_eq!(directory.gift("g"), Some(pending.clone()));
        assert!(directory.write_gift(credit(1), NOW).unwrap());
        assert_eq!(directory.gift("g"), Some(done));
        assert_eq!(directory.read("bob").unwrap().revision, 2);
    }

    #[test]
    fn pending_gifts_are_due_in_order_and_ended_ones_are_forgotten() {
        let directory = EmbeddedDirectory::default();
        for (id, after) in [("late", 9), ("second", 2), ("first", 1)] {
            let one = gift(id, GiftState::Pending);
            write_gift(&directory, (None, &one), &[], NOW.after(Duration::from_secs(after)));
        }
        let at = NOW.after(Duration::from_secs(2));
        assert_eq!(directory.due_gifts(at, 9), ["first", "second"]);
        assert_eq!(directory.due_gifts(at, 1), ["first"]);

        let log = [event("ann", "bob", NOW)];
        write_gift(&directory, (None, &gift("ended", GiftState::Refused)), &log, NOW);
        let long_after = NOW.after(GIFT_LOG_LIFE);
        for (id, at) in [("soon", NOW.after(GIFT_KEPT - Duration::from_secs(1))), ("x", long_after)]
        {
            assert!(directory.gift("ended").is_some() && !directory.gift_log("ann").is_empty());
            write_gift(&directory, (None, &gift(id, GiftState::Pending)), &[], at);
        }
        assert!(directory.gift("ended").is_none() && directory.gift_log("ann").is_empty());
        assert!(directory.gift("first").is_some(), "a pending gift is never forgotten");
    }

    #[test]
    fn a_log_has_the_youngest_lines() {
        let directory = EmbeddedDirectory::default();
        for number in 0..=GIFT_LOG_LEN_MAX {
            let at = NOW.after(Duration::from_secs(number as u64));
            let gift = gift(&format!("g{number}"), GiftState::Done);
            write_gift(&directory, (None, &gift), &[event("ann", "bob", at)], at);
        }
        let log = directory.gift_log("ann");
        assert_eq!(log.len(), GIFT_LOG_LEN_MAX);
        assert!(log.is_sorted_by(|one, next| next.at < one.at));
        assert_eq!(log.last().unwrap().at, NOW.after(Duration::from_secs(1)));
    }

    #[test]
    fn an_erased_caller_is_in_no_gift_but_a_pending_one() {
        let directory = EmbeddedDirectory::default();
        let log = [event("ann", "bob", NOW), event("bob", "ann", NOW)];
        write_gift(&directory, (None, &gift("done", GiftState::Done)), &log, NOW);
        let pending = gift("pending", GiftState::Pending);
        write_gift(&directory, (None, &pending), &[], NOW);
        let erased = directory.erase_gifts("ann").unwrap();
        assert_eq!(erased, ErasedGifts { count: 3, is_pending: true });
        assert!(directory.gift_log("ann").is_empty());
        assert_eq!(directory.gift_log("bob")[0].with, "");
        let done = directory.gift("done").unwrap();
        assert_eq!((&*done.from, &*done.to), ("", "bob"));
        assert_eq!(directory.gift("pending"), Some(pending));
        let nothing = ErasedGifts { count: 0, is_pending: true };
        assert_eq!(directory.erase_gifts("ann").unwrap(), nothing);
    }

    #[test]
    fn a_file_has_all_that_was_written() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("callers.redb");
        let open = || {
            let (file, content) = DirectoryFile::open(&path).unwrap();
            EmbeddedDirectory::of(file, content)
        };
        let directory = open();
        let of_acme = child("acme");
        for (name, caller) in [("ann", Some(&of_acme)), ("bob", Some(&of_acme)), ("bob", None)] {
            let seen = directory.read(name).map_or(0, |record| record.revision);
            directory.write(change(name, seen, caller)).unwrap();
        }
        let log = [event("ann", "a\nb", NOW), event("bob", "ann", NOW)];
        write_gift(&directory, (None, &gift("done", GiftState::Done)), &log, NOW);
        write_gift(&directory, (None, &gift("pending", GiftState::Pending)), &log[..1], NOW);
        drop(directory);

        let directory = open();
        assert_eq!(directory.page("", 9).callers.len(), 1);
        let record = directory.read("ann").unwrap();
        assert_eq!((&*record.caller, record.revision), (&of_acme, 1));
        assert_eq!(directory.gift("done"), Some(gift("done", GiftState::Done)));
        assert_eq!(directory.due_gifts(NOW, 9), ["pending"]);
        assert_eq!(directory.gift_log("ann"), [log[0].clone(), log[0].clone()]);
        assert_eq!(directory.gift_log("bob"), log[1..]);
        // A revision is used once, also that of a caller who was deleted.
        let again = directory.write(change("bob", 0, Some(&of_acme))).unwrap();
        assert_eq!(again, Some(4));
    }
}
