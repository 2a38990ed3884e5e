//! Tries CHAP against a running target: `chap ADDR:PORT TARGET USER SECRET [TARGET-USER TARGET-SECRET]`.

use anyhow::{Result, bail};
use scst_testkit::LoginConfig;
use scst_testkit::chap::{Chap, ChapAlgorithm, Notation};
use scst_testkit::hostile::{try_login, wrong_chap};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [portal, target, user, secret, mutual @ ..] = arguments.as_slice() else {
        bail!("usage: chap ADDR:PORT TARGET USER SECRET [TARGET-USER TARGET-SECRET]");
    };
    let portal = portal.parse()?;
    let config = LoginConfig::normal("iqn.2026-01.test:chap", target);
    let chap = Chap::new(user, secret);
    for algorithm in ChapAlgorithm::ALL {
        for notation in [Notation::Hex, Notation::Base64] {
            let chap = Chap { notation, ..chap.clone().with_algorithm(algorithm) };
            println!("{algorithm:?} {notation:?}: {:?}", try_login(portal, config.clone().with_chap(chap)));
        }
    }
    let chap = chap.with_algorithm(ChapAlgorithm::Md5);
    if let [name, secret] = mutual {
        let good = chap.clone().with_mutual(name, secret);
        println!("mutual: {:?}", try_login(portal, config.clone().with_chap(good)));
        let bad = chap.clone().with_mutual(name, "wrong secret of target");
        println!("mutual, wrong: {:?}", try_login(portal, config.clone().with_chap(bad)));
    }
    for (name, result) in wrong_chap(portal, &config.with_chap(chap)) {
        println!("{name}: {result:?}");
    }
    Ok(())
}
