use std::{collections::HashSet, time::Instant};

use super::*;
use crate::identity::testing::Scratch;

#[test]
fn the_mount_is_found_on_hybrid_and_pure_nodes_and_with_odd_names() {
    let mounts = b"23 1 0:22 / /proc rw - proc proc rw\n\
        31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n\
        35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
        41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:9 master:2 - cgroup2 cgroup2 rw\n\
        42 31 0:38 /../.. /host/sys/fs/cgroup ro - cgroup2 cgroup rw,nsdelegate\n\
        43 31 0:38 /kubepods/pod\\0401 /mnt/a\\040b\\134c\\777 rw - cgroup2 - rw\n\
        44 31 0:38 / /mnt/cgroup2 rw - tmpfs cgroup2 rw\n\
        half a line\n";
    let found: Vec<_> = cgroup2_mounts(mounts).collect();
    let expected = [
        ("/", "/sys/fs/cgroup/unified"),
        ("/", "/host/sys/fs/cgroup"),
        ("/kubepods/pod 1", "/mnt/a b\\c\\777"),
    ];
    assert_eq!(found, expected.map(|(root, directory)| (root.into(), directory.into())));
    let memory: Vec<_> = memory_mounts(mounts).collect();
    assert_eq!(memory, [("/".into(), "/sys/fs/cgroup/memory".into())]);
}

#[test]
fn a_walk_names_every_directory_by_its_inode() {
    let scratch = Scratch::new("walk");
    for path in ["a/b/c", "a/d", "e"] {
        fs::create_dir_all(scratch.path().join(path)).unwrap();
    }
    fs::write(scratch.path().join("a/cgroup.procs"), "").unwrap();
    std::os::unix::fs::symlink(scratch.path(), scratch.path().join("a/loop")).unwrap();

    let tree = Tree::at(scratch.path()).unwrap();
    let walk = tree.walk(100).unwrap();
    assert!(walk.is_complete());
    let mut paths: Vec<_> = walk.found.iter().map(|(_, path)| path.to_str().unwrap()).collect();
    paths.sort_unstable();
    assert_eq!(paths, ["/", "/a", "/a/b", "/a/b/c", "/a/d", "/e"]);
    for (id, path) in &walk.found {
        assert_eq!(tree.id_at(path), Some(*id));
        assert_eq!(tree.path_of(*id, 100).unwrap().as_ref(), Some(path));
    }
    assert_eq!(tree.path_of(u64::MAX, 100).unwrap(), None);
    assert_eq!(tree.id_at(Path::new("/nobody")), None);
}

#[test]
fn a_walk_stops_at_its_limit_and_says_so() {
    let scratch = Scratch::new("limit");
    for i in 0..20 {
        fs::create_dir_all(scratch.path().join(format!("{i}/below"))).unwrap();
    }
    let tree = Tree::at(scratch.path()).unwrap();
    for limit in [0, 1, 5, 20, 40] {
        let walk = tree.walk(limit).unwrap();
        assert_eq!(walk.found.len(), limit);
        assert!(walk.cut >= 1, "limit {limit}");
        assert!(!walk.is_complete());
    }
    assert_eq!(tree.walk(41).unwrap().cut, 0);
}

#[test]
fn the_part_of_a_hierarchy_that_is_mounted_keeps_its_full_paths() {
    let scratch = Scratch::new("part");
    fs::create_dir(scratch.path().join("inner")).unwrap();
    let tree = Tree::open(scratch.path().to_owned(), "/outer/slice".into(), Hierarchy::V2).unwrap();
    assert!(!tree.is_whole());
    let paths: Vec<_> = tree.walk(9).unwrap().found.into_iter().map(|(_, path)| path).collect();
    assert_eq!(paths, [Path::new("/outer/slice"), Path::new("/outer/slice/inner")]);
    assert!(tree.id_at(&paths[1]).is_some());
}

#[test]
fn a_missing_tree_is_an_error_that_names_the_place() {
    let error = Tree::at("/nowhere/at/all").unwrap_err();
    assert!(error.to_string().contains("/nowhere/at/all"));
    assert!(TreeError::NotMounted.to_string().contains("mount -t cgroup2"));
}

#[test]
fn walking_while_directories_vanish_is_fine() {
    let scratch = Scratch::new("vanish");
    let root = scratch.path().to_owned();
    let tree = Tree::at(&root).unwrap();
    let churn = std::thread::spawn(move || {
        for round in 0..50 {
            let directory = root.join(format!("pod{}", round % 7));
            let _ = fs::create_dir_all(directory.join("container"));
            let _ = fs::remove_dir_all(directory);
        }
    });
    while !churn.is_finished() {
        assert_eq!(tree.walk(1000).unwrap().unreadable, 0);
    }
    churn.join().unwrap();
}

#[test]
fn thousands_of_directories_take_a_moment() {
    let scratch = Scratch::new("many");
    for pod in 0..200 {
        for container in 0..9 {
            fs::create_dir_all(scratch.path().join(format!("pod{pod}/{container}"))).unwrap();
        }
    }
    let tree = Tree::at(scratch.path()).unwrap();
    let begin = Instant::now();
    assert_eq!(tree.walk(3000).unwrap().found.len(), 2001);
    // Generous for a loaded machine.
    assert!(begin.elapsed().as_secs_f64() < 2.0, "{:?}", begin.elapsed());
}

#[test]
fn the_real_hierarchy_if_there_is_one() {
    let tree = match Tree::find(Wanted::V2) {
        Ok(tree) => tree,
        Err(error) => return eprintln!("skipped: {error}"),
    };
    let walk = tree.walk(100_000).unwrap();
    let (root_id, root) = &walk.found[0];
    assert_eq!(*root_id, tree.root_id());
    assert!(tree.root_id() != 1 || root == Path::new("/"));
    let ids: HashSet<u64> = walk.found.iter().map(|(id, _)| *id).collect();
    assert_eq!(ids.len(), walk.found.len());
    for (id, path) in walk.found.iter().take(200) {
        // Others may come and go meanwhile.
        assert!(tree.id_at(path).is_none_or(|other| other == *id), "{}", path.display());
    }
}
