//! What may be lost, in words that a person can act on.

use super::standing::Standing;
use crate::backend::Zone;
use std::collections::BTreeSet;

/// The smallest margins of many objects, and which zones are not to be lost.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::ops) struct Outlook {
    objects: u64,
    beyond: u64,
    margin: Option<u32>,
    backend_margin: Option<u32>,
    critical_zones: BTreeSet<Zone>,
}

impl Outlook {
    /// Takes so many more objects into account that stand alike.
    pub(in crate::ops) fn add(&mut self, standing: &Standing, objects: u64) {
        self.objects = self.objects.saturating_add(objects);
        match (standing.margin, standing.backend_margin) {
            (Some(margin), Some(backend_margin)) => {
                self.margin = Some(self.margin.map_or(margin, |least| least.min(margin)));
                self.backend_margin =
                    Some(self.backend_margin.map_or(backend_margin, |least| least.min(backend_margin)));
                self.critical_zones.extend(standing.critical_zones.iter().cloned());
            }
            _ => self.beyond = self.beyond.saturating_add(objects),
        }
    }

    /// The least zone margin of all objects; `None` when there are none, or one of them cannot be recovered now.
    pub(in crate::ops) fn margin(&self) -> Option<u32> {
        self.margin.filter(|_| self.beyond == 0)
    }

    /// The least backend margin, likewise.
    pub(in crate::ops) fn backend_margin(&self) -> Option<u32> {
        self.backend_margin.filter(|_| self.beyond == 0)
    }

    /// What may be lost, and what not: `any 2 zones`, ``not zone `disk-sda` ``, `any 1 backend`.
    pub(in crate::ops) fn may_be_lost(&self) -> Vec<String> {
        let mut words = Vec::new();
        if self.beyond > 0 {
            words.push(format!("nothing more: {} cannot be recovered now", count(self.beyond, "object")));
        }
        let (Some(margin), Some(backends)) = (self.margin, self.backend_margin) else { return words };
        let rest = if self.beyond > 0 { " of the others" } else { "" };
        if margin > 0 {
            words.push(format!("any {}{rest}", count(u64::from(margin), "zone")));
        }
        words.extend(self.critical_zones.iter().map(|zone| format!("not zone `{zone}`")));
        if backends > margin {
            words.push(format!("any {}{rest}", count(u64::from(backends), "backend")));
        }
        if margin == 0 && backends == 0 && self.critical_zones.is_empty() {
            words.push(format!("no zone{rest}"));
        }
        words
    }
}

fn count(number: u64, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::ObjectState;

    fn standing(margin: Option<u32>, backend_margin: Option<u32>, critical: &[&str]) -> Standing {
        let critical_zones = critical.iter().map(|name| Zone::new(*name).expect("a zone")).collect();
        Standing { state: ObjectState::Healthy, margin, backend_margin, critical_zones }
    }

    fn words(objects: &[Standing]) -> Vec<String> {
        let mut outlook = Outlook::default();
        objects.iter().for_each(|standing| outlook.add(standing, 1));
        outlook.may_be_lost()
    }

    #[test]
    fn what_may_be_lost_is_said_in_words() {
        assert_eq!(words(&[]), [""; 0]);
        assert_eq!(words(&[standing(Some(2), Some(2), &[])]), ["any 2 zones"]);
        assert_eq!(words(&[standing(Some(1), Some(1), &[]), standing(Some(4), Some(4), &[])]), ["any 1 zone"]);
        assert_eq!(words(&[standing(Some(1), Some(2), &[])]), ["any 1 zone", "any 2 backends"]);
        let one_disk = [standing(Some(0), Some(2), &["disk-sda"])];
        assert_eq!(words(&one_disk), ["not zone `disk-sda`", "any 2 backends"]);
    }

    #[test]
    fn what_is_beyond_recovery_comes_first_and_leaves_no_margin() {
        let objects = [standing(None, None, &[]), standing(Some(2), Some(2), &[])];
        assert_eq!(words(&objects), ["nothing more: 1 object cannot be recovered now", "any 2 zones of the others"]);
        let mut outlook = Outlook::default();
        objects.iter().for_each(|standing| outlook.add(standing, 1));
        assert_eq!((outlook.margin(), outlook.backend_margin()), (None, None));
    }

    #[test]
    fn every_critical_zone_of_any_object_is_named_once() {
        let objects = [standing(Some(0), Some(0), &["a"]), standing(Some(0), Some(1), &["b", "a"])];
        assert_eq!(words(&objects), ["not zone `a`", "not zone `b`"]);
    }
}
