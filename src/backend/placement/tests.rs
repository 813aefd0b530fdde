//! Properties of placements over registries drawn at random, and the cases that taught them.

use super::super::dice::Dice;
use super::*;

const REGISTRIES: u64 = 100_000;

fn zone(name: &str) -> Zone {
    Zone::new(name).expect("a zone")
}

fn candidate(name: &str) -> Candidate {
    Candidate { zone: zone(name), eligible: true, lasting: true }
}

fn candidates(names: &[&str]) -> Vec<Candidate> {
    names.iter().map(|name| candidate(name)).collect()
}

fn rules(data_shards: usize) -> PlacementRules {
    PlacementRules { data_shards, ..PlacementRules::default() }
}

fn everywhere(count: usize) -> Vec<usize> {
    (0..count).collect()
}

fn random_candidates(dice: &mut Dice) -> Vec<Candidate> {
    let zones = 1 + dice.below(6);
    let count = dice.below(13);
    let one = |dice: &mut Dice| {
        let lasting = dice.below(8) != 0;
        let name = format!("zone-{}", dice.below(zones));
        Candidate { eligible: lasting && dice.below(5) != 0, lasting, ..candidate(&name) }
    };
    (0..count).map(|_| one(dice)).collect()
}

fn random_rules(dice: &mut Dice, total: usize) -> PlacementRules {
    let data_shards = 1 + dice.below(total as u64 - 1) as usize;
    PlacementRules { data_shards, rotation: dice.below(1000) as usize, zone_limit: None }
}

fn random_places(dice: &mut Dice, candidate_count: usize, total: usize) -> Vec<Option<usize>> {
    let mut one = || (candidate_count > 0 && dice.below(3) != 0).then(|| dice.below(candidate_count as u64) as usize);
    (0..total).map(|_| one()).collect()
}

fn zone_loads(candidates: &[Candidate], places: &[Option<usize>]) -> BTreeMap<Zone, usize> {
    let mut loads = BTreeMap::new();
    for place in places.iter().flatten().filter(|place| candidates[**place].lasting) {
        *loads.entry(candidates[*place].zone.clone()).or_default() += 1;
    }
    loads
}

fn fullest_backend(places: &[Option<usize>]) -> usize {
    (0..20).map(|candidate| places.iter().flatten().filter(|place| **place == candidate).count()).max().unwrap_or(0)
}

/// The obvious order: fewest in the zone, then on the backend.
fn zones_first(candidates: &[Candidate], total: usize) -> Vec<Option<usize>> {
    let (mut in_zone, mut on_backend) = (BTreeMap::<Zone, usize>::new(), vec![0; candidates.len()]);
    let mut places = Vec::new();
    for _ in 0..total {
        let eligible = (0..candidates.len()).filter(|number| candidates[*number].eligible);
        let load = |number: &usize| (in_zone.get(&candidates[*number].zone).copied().unwrap_or(0), on_backend[*number]);
        let best = eligible.min_by_key(load);
        if let Some(best) = best {
            *in_zone.entry(candidates[best].zone.clone()).or_default() += 1;
            on_backend[best] += 1;
        }
        places.push(best);
    }
    places
}

#[test]
fn no_backend_is_given_more_than_an_even_spread_needs_unless_that_raises_the_zone_margin() {
    let mut dice = Dice::new(1);
    for round in 0..REGISTRIES {
        let candidates = random_candidates(&mut dice);
        let total = 2 + dice.below(14) as usize;
        let rules = random_rules(&mut dice, total);
        let places = place(&candidates, &vec![None; total], rules);
        assert_eq!(places, place(&candidates, &vec![None; total], rules), "round {round}: not determined");
        let eligible = candidates.iter().filter(|candidate| candidate.eligible).count();
        if eligible == 0 {
            assert!(places.iter().all(Option::is_none), "round {round}: placed on nothing");
            continue;
        }
        assert!(places.iter().all(Option::is_some), "round {round}: a shard without a place");
        assert!(places.iter().flatten().all(|place| candidates[*place].eligible), "round {round}: not eligible");
        let came = worth(&candidates, &places, rules);
        let obvious = worth(&candidates, &zones_first(&candidates, total), rules);
        assert!(came >= obvious, "round {round}: {came:?}, and zones first it is {obvious:?}");
        assert_eq!(came.zones, obvious.zones, "round {round}: as even as can be over zones is the best for them");
        let even = Spread::of(&candidates, &vec![None; total], rules);
        let even = (0..total).fold(even, |mut even, shard| {
            even.settle(shard);
            even
        });
        let raised = came.zones > even.worth().zones;
        assert!(raised || fullest_backend(&places) == total.div_ceil(eligible), "round {round}: {places:?}");
    }
}

#[test]
fn what_was_just_placed_is_not_misplaced() {
    let mut dice = Dice::new(5);
    for round in 0..REGISTRIES {
        let candidates = random_candidates(&mut dice);
        let total = 2 + dice.below(14) as usize;
        let rules = random_rules(&mut dice, total);
        let places = place(&candidates, &vec![None; total], rules);
        assert_eq!(better_places(&candidates, &places, &everywhere(total), rules), places, "round {round}");
    }
}

#[test]
fn the_best_of_all_placements_is_found_where_all_can_be_tried() {
    let mut dice = Dice::new(6);
    for round in 0..REGISTRIES / 250 {
        let mut candidates = random_candidates(&mut dice);
        candidates.truncate(4);
        let total = 2 + dice.below(5) as usize;
        let rules = random_rules(&mut dice, total);
        let eligible: Vec<usize> = (0..candidates.len()).filter(|number| candidates[*number].eligible).collect();
        let all = eligible.len().pow(total as u32);
        let numbered = |number: usize| -> Vec<Option<usize>> {
            (0..total as u32)
                .map(|digit| eligible.get(number / eligible.len().pow(digit) % eligible.len()).copied())
                .collect()
        };
        let best = (0..all).map(|number| worth(&candidates, &numbered(number), rules)).max();
        let came = place(&candidates, &vec![None; total], rules);
        let came = (!eligible.is_empty()).then(|| worth(&candidates, &came, rules));
        assert_eq!(came, best, "round {round}: {candidates:?}, {rules:?}, {total}");
    }
}

#[test]
fn what_is_placed_stays_and_a_zone_limit_is_never_exceeded() {
    let mut dice = Dice::new(2);
    for round in 0..REGISTRIES {
        let candidates = random_candidates(&mut dice);
        let total = 2 + dice.below(14) as usize;
        let placed = random_places(&mut dice, candidates.len(), total);
        let limit = 1 + dice.below(4) as usize;
        let rules = PlacementRules { zone_limit: Some(limit), ..random_rules(&mut dice, total) };
        let places = place(&candidates, &placed, rules);
        let before = zone_loads(&candidates, &placed);
        let after = zone_loads(&candidates, &places);
        for (old, new) in placed.iter().zip(&places) {
            assert!(old.is_none() || old == new, "round {round}: a placed shard moved");
        }
        for (zone, load) in &after {
            let had = before.get(zone).copied().unwrap_or(0);
            assert!(*load <= limit.max(had), "round {round}: {load} in {zone}, limit {limit}, had {had}");
        }
        let left_out = places.iter().any(Option::is_none);
        let load = |candidate: &Candidate| after.get(&candidate.zone).copied().unwrap_or(0);
        let room = candidates.iter().any(|candidate| candidate.eligible && load(candidate) < limit);
        assert!(!(left_out && room), "round {round}: a shard without a place while there was one");
    }
}

/// An object with places, some of which were lost: where its shards were, and where they are still.
struct Shaken {
    candidates: Vec<Candidate>,
    before: Vec<Option<usize>>,
    placed: Vec<Option<usize>>,
    rules: PlacementRules,
    limit: usize,
}

impl Shaken {
    fn draw(dice: &mut Dice) -> Self {
        let candidates = random_candidates(dice);
        let total = 2 + dice.below(14) as usize;
        let limit = 1 + dice.below(4) as usize;
        let rules = PlacementRules { zone_limit: Some(limit), ..random_rules(dice, total) };
        // Half of them were placed within the limit, and half wherever the dice fell.
        let before = match dice.below(2) {
            0 => place(&candidates, &vec![None; total], rules),
            _ => random_places(dice, candidates.len(), total),
        };
        let placed = before.iter().map(|place| place.filter(|_| dice.below(3) != 0)).collect();
        Self { candidates, before, placed, rules, limit }
    }

    fn load(loads: &BTreeMap<Zone, usize>, zone: &Zone) -> usize {
        loads.get(zone).copied().unwrap_or(0)
    }
}

#[test]
fn an_object_that_kept_the_zone_limit_keeps_it_when_its_shards_find_places_again() {
    let mut dice = Dice::new(7);
    let mut kept = 0;
    for round in 0..REGISTRIES {
        let Shaken { candidates, before, placed, rules, limit } = Shaken::draw(&mut dice);
        if zone_loads(&candidates, &before).values().any(|load| *load > limit) {
            continue;
        }
        kept += 1;
        let places = place_again(&candidates, &placed, &before, rules);
        assert_eq!(places, place(&candidates, &placed, rules), "round {round}: as when it was put");
        assert!(zone_loads(&candidates, &places).values().all(|load| *load <= limit), "round {round}: {places:?}");
        assert!(crowded_zones(&candidates, &places, rules).is_empty(), "round {round}");
        if round % 20 == 0 {
            let better = better_places(&candidates, &places, &everywhere(places.len()), rules);
            assert!(zone_loads(&candidates, &better).values().all(|load| *load <= limit), "round {round}: {better:?}");
        }
    }
    assert!(kept > REGISTRIES / 4, "{kept} objects kept the limit");
}

#[test]
fn an_object_over_the_zone_limit_finds_places_and_gets_no_worse_where_that_can_be() {
    let mut dice = Dice::new(8);
    let (mut over, mut went_beyond) = (0, 0);
    for round in 0..REGISTRIES {
        let Shaken { candidates, before, placed, rules, limit } = Shaken::draw(&mut dice);
        let had = zone_loads(&candidates, &before);
        if had.values().all(|load| *load <= limit) {
            continue;
        }
        over += 1;
        let places = place_again(&candidates, &placed, &before, rules);
        let has = zone_loads(&candidates, &places);
        let stay = placed.iter().zip(&places).all(|(old, new)| old.is_none() || old == new);
        assert!(stay, "round {round}: a placed shard moved");
        let eligible = || candidates.iter().filter(|candidate| candidate.eligible);
        let homeless = places.iter().any(Option::is_none);
        assert!(!homeless || eligible().count() == 0, "round {round}: a shard without a place while there was one");
        let cap = |zone: &Zone| limit.max(Shaken::load(&had, zone));
        let worse = has.iter().any(|(zone, load)| *load > cap(zone));
        let room = eligible().any(|candidate| Shaken::load(&has, &candidate.zone) < cap(&candidate.zone));
        assert!(!(worse && room), "round {round}: {has:?} after {had:?}, limit {limit}, and there was room");
        let strict = place(&candidates, &placed, rules);
        let kept = strict.iter().zip(&places).all(|(strict, place)| strict.is_none() || strict == place);
        assert!(kept, "round {round}: a place within the limit was given up");
        let crowded: Vec<&Zone> = has.iter().filter(|(_, load)| **load > limit).map(|(zone, _)| zone).collect();
        assert!(crowded_zones(&candidates, &places, rules).into_iter().eq(crowded), "round {round}");
        went_beyond += usize::from(strict != places);
    }
    assert!(over > 10_000 && went_beyond > 1_000, "{over} were over the limit, {went_beyond} found no place within");
}

#[test]
fn better_places_are_worth_strictly_more_and_then_there_are_no_better_ones() {
    let mut dice = Dice::new(3);
    for round in 0..REGISTRIES / 10 {
        let candidates = random_candidates(&mut dice);
        let total = 2 + dice.below(14) as usize;
        let placed = random_places(&mut dice, candidates.len(), total);
        let rules = random_rules(&mut dice, total);
        let movable: Vec<usize> = (0..total).filter(|_| dice.below(4) != 0).collect();
        let better = better_places(&candidates, &placed, &movable, rules);
        let moved: Vec<usize> = (0..total).filter(|shard| better[*shard] != placed[*shard]).collect();
        assert!(moved.iter().all(|shard| movable.contains(shard)), "round {round}: a shard moved that may not");
        assert!(moved.iter().all(|shard| candidates[better[*shard].expect("a place")].eligible), "round {round}");
        let (before, after) = (worth(&candidates, &placed, rules), worth(&candidates, &better, rules));
        assert!(moved.is_empty() || after > before, "round {round}: {before:?} became {after:?}");
        assert_eq!(better_places(&candidates, &better, &movable, rules), better, "round {round}: it does not end");
        for shard in moved {
            let mut without = better.clone();
            without[shard] = placed[shard];
            assert!(worth(&candidates, &without, rules) < after, "round {round}: shard {shard} need not move");
        }
    }
}

#[test]
fn the_rotation_spreads_data_and_parity_over_all_backends() {
    let names: Vec<String> = (0..7).map(|index| format!("zone-{index}")).collect();
    let candidates: Vec<_> = names.iter().map(|name| candidate(name)).collect();
    let mut data = [0; 7];
    let mut all = [0; 7];
    for rotation in 0..70 {
        let places = place(&candidates, &[None; 5], PlacementRules { rotation, ..rules(3) });
        assert_eq!(places[0], Some(rotation % 7), "it starts at the rotation");
        for (index, place) in places.into_iter().flatten().enumerate() {
            all[place] += 1;
            data[place] += usize::from(index < 3);
        }
    }
    assert_eq!((all, data), ([50; 7], [30; 7]));
}

#[test]
fn a_second_zone_that_gains_nothing_takes_no_more_than_one_shard_and_moves_none() {
    let disk_and_nas = candidates(&["disk", "disk", "disk", "disk", "disk", "nas"]);
    let on_the_disk: Vec<_> = (0..5).map(Some).collect();
    assert_eq!(better_places(&disk_and_nas, &on_the_disk, &everywhere(5), rules(3)), on_the_disk);
    for rotation in 0..6 {
        let rules = PlacementRules { rotation, ..rules(3) };
        let places = place(&disk_and_nas, &[None; 5], rules);
        let came = worth(&disk_and_nas, &places, rules);
        assert_eq!(came, Worth { shards: 5, zones: Some(0), backends: Some(2) }, "{places:?}");
    }
}

#[test]
fn a_zone_margin_that_takes_several_moves_is_reached() {
    let three_zones = candidates(&["disk", "disk", "disk", "disk", "disk", "nas", "cloud"]);
    let on_the_disk: Vec<_> = (0..5).map(Some).collect();
    let better = better_places(&three_zones, &on_the_disk, &everywhere(5), rules(3));
    assert_eq!(worth(&three_zones, &better, rules(3)).zones, Some(1), "{better:?}");
    assert_eq!(better.iter().zip(&on_the_disk).filter(|(new, old)| new != old).count(), 3);
}

#[test]
fn a_full_or_unreachable_place_does_not_make_its_shard_misplaced_and_a_shared_zone_does() {
    let mut two = candidates(&["a", "b"]);
    two[0].eligible = false;
    let better =
        |candidates: &[Candidate], placed: [Option<usize>; 2]| better_places(candidates, &placed, &[0, 1], rules(1));
    assert_eq!(better(&two, [Some(0), None]), [Some(0), None]);
    assert_eq!(better(&two, [Some(0), Some(0)]), [Some(0), Some(1)]);
    two[1].zone = zone("a");
    assert_eq!(better(&two, [Some(0), Some(0)]), [Some(0), Some(1)], "another backend of the zone");
    assert_eq!(better(&two, [Some(0), Some(1)]), [Some(0), Some(1)]);
}

#[test]
fn what_is_in_memory_alone_counts_for_nothing_and_is_no_better_place() {
    let mut three = candidates(&["a", "a", "b"]);
    three[2] = Candidate { eligible: false, lasting: false, ..candidate("b") };
    let placed = [Some(0), Some(1), Some(0)];
    assert_eq!(better_places(&three, &placed, &everywhere(3), rules(2)), placed);
    assert_eq!(worth(&three, &[Some(0), Some(1), Some(2)], rules(2)).shards, 2);
    let better = better_places(&three, &[Some(0), Some(1), Some(2)], &everywhere(3), rules(2));
    assert_eq!(better, placed, "out of memory it lasts");
}

#[test]
fn a_zone_over_the_limit_is_relieved_as_far_as_there_are_places() {
    let three = candidates(&["a", "b", "c"]);
    let rules = PlacementRules { zone_limit: Some(1), ..rules(2) };
    let all_in_one = [Some(0); 5];
    assert_eq!(worth(&three, &all_in_one, rules).zones, Some(0));
    let better = better_places(&three, &all_in_one, &everywhere(5), rules);
    assert_eq!(worth(&three, &better, rules).zones, Some(1), "{better:?}");
    assert_eq!(zone_loads(&three, &better), [(zone("a"), 3), (zone("b"), 1), (zone("c"), 1)].into());
}

/// Found by chance: few objects are worth more for it, and these are.
#[test]
fn an_object_loses_less_where_shards_are_first_taken_out_of_zones_that_have_too_many() {
    for (zones, data_shards, rotation, limit, placed, margins) in [
        ("abbbbbabaca", 2, 1, 6, [1, 5, 0, 2, 5, 0, 2, 0, 2, 2, 4, 0, 2, 3, 4], (Some(2), Some(9))),
        ("cfecbcacbcba", 8, 0, 4, [0, 5, 5, 2, 1, 0, 5, 0, 5, 2, 3, 2, 0, 0, 1], (Some(2), Some(3))),
    ] {
        let candidates: Vec<Candidate> = zones.chars().map(|zone| candidate(&zone.to_string())).collect();
        let rules = PlacementRules { data_shards, rotation, zone_limit: Some(limit) };
        let better = better_places(&candidates, &placed.map(Some), &everywhere(placed.len()), rules);
        let worth = worth(&candidates, &better, rules);
        assert_eq!((worth.zones, worth.backends), margins, "{better:?}");
    }
}

#[test]
fn a_place_that_is_none_of_the_candidates_is_none() {
    let two = candidates(&["a", "b"]);
    assert_eq!(worth(&two, &[Some(0), Some(2), Some(77)], rules(1)), worth(&two, &[Some(0), None, None], rules(1)));
}

#[test]
fn the_margin_is_what_brute_force_says() {
    let mut dice = Dice::new(4);
    for round in 0..REGISTRIES / 5 {
        let good = dice.below(10) as usize;
        let zones = 1 + dice.below(7);
        let data_shards = 1 + dice.below(7) as usize;
        let groups: Vec<u64> = (0..good).map(|_| dice.below(zones)).collect();
        let expected = brute_force(&groups, zones, data_shards);
        assert_eq!(margin(groups.iter(), data_shards), expected, "round {round}: {groups:?}, k = {data_shards}");
        let critical = critical_groups(groups.iter(), data_shards);
        let any_critical = expected == Some(0) || (expected.is_none() && good > 0);
        assert_eq!(!critical.is_empty(), any_critical, "round {round}: {groups:?}, k = {data_shards}");
    }
}

/// The largest m such that every loss of m of the groups in use leaves k shards.
fn brute_force(groups: &[u64], zones: u64, data_shards: usize) -> Option<usize> {
    let used = (0..zones).filter(|zone| groups.contains(zone)).fold(0_u64, |bits, zone| bits | 1 << zone);
    let survives = |lost: u64| groups.iter().filter(|zone| lost >> **zone & 1 == 0).count() >= data_shards;
    let subsets = |size| (0_u64..1 << zones).filter(move |lost| lost & !used == 0 && lost.count_ones() == size);
    (0..=used.count_ones()).take_while(|size| subsets(*size).all(survives)).last().map(|size| size as usize)
}

#[test]
fn five_folders_on_one_disk_have_margin_0_and_backend_margin_2() {
    assert_eq!(margin(["disk-sda"; 5], 3), Some(0));
    assert_eq!(margin(0..5, 3), Some(2));
    assert_eq!(margin(0..2, 3), None);
    assert_eq!(critical_groups(["a", "a", "a", "b", "b"], 3), ["a"]);
}
