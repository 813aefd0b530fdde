//! The engines by name: which there are, which this processor can run, and which a codec takes when it is not told.

use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;

/// The instructions that the arithmetic is done with. What is computed does not depend on it, only how fast.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Engine {
    /// x86-64 with GFNI on registers of 64 bytes.
    GfniAvx512,
    /// x86-64 with AVX-512BW.
    Avx512,
    /// x86-64 with GFNI on registers of 32 bytes.
    GfniAvx2,
    /// x86-64 with AVX2.
    Avx2,
    /// x86-64 with SSSE3.
    Ssse3,
    /// 64-bit ARM.
    Neon,
    /// Any processor: tables in memory, a byte at a time.
    Portable,
}

/// Why an engine cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// The text names none.
    #[error("{name:?} is no codec engine: there are {}", names(&Engine::ALL))]
    Unknown {
        /// What was given.
        name: String,
    },
    /// Another processor is needed.
    #[error("this processor cannot run the codec engine {engine}: it runs {}", names(&Engine::available()))]
    Unavailable {
        /// What was asked for.
        engine: Engine,
    },
    /// The choice comes too late.
    #[error("the codec engine of this process is {in_use} already, and cannot become {engine}")]
    InUse {
        /// What was asked for.
        engine: Engine,
        /// What has been in use.
        in_use: Engine,
    },
}

/// What a codec takes when it is not told; decided once, so that a process computes in one way.
static BY_DEFAULT: OnceLock<Engine> = OnceLock::new();

impl Engine {
    /// All there are, on any processor; usually the fastest first.
    pub const ALL: [Self; 7] =
        [Self::GfniAvx512, Self::Avx512, Self::GfniAvx2, Self::Avx2, Self::Ssse3, Self::Neon, Self::Portable];

    /// Those that this processor can run; usually the fastest first. The portable one is always among them.
    pub fn available() -> Vec<Self> {
        Self::ALL.into_iter().filter(|engine| engine.is_available()).collect()
    }

    /// Whether this processor can run it.
    pub fn is_available(self) -> bool {
        match self {
            Self::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Self::GfniAvx512 => Self::Avx512.is_available() && is_x86_feature_detected!("gfni"),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw"),
            #[cfg(target_arch = "x86_64")]
            Self::GfniAvx2 => Self::Avx2.is_available() && is_x86_feature_detected!("gfni"),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => is_x86_feature_detected!("avx2"),
            #[cfg(target_arch = "x86_64")]
            Self::Ssse3 => is_x86_feature_detected!("ssse3"),
            #[cfg(target_arch = "aarch64")]
            Self::Neon => std::arch::is_aarch64_feature_detected!("neon"),
            _ => false,
        }
    }

    /// What it is called in settings and measurements.
    pub fn name(self) -> &'static str {
        match self {
            Self::GfniAvx512 => "gfni-avx512",
            Self::Avx512 => "avx512",
            Self::GfniAvx2 => "gfni-avx2",
            Self::Avx2 => "avx2",
            Self::Ssse3 => "ssse3",
            Self::Neon => "neon",
            Self::Portable => "portable",
        }
    }

    /// What [`ErasureCodec::new`](super::ErasureCodec::new) takes: what [`Self::use_by_default`] said, else the fastest
    /// that this processor can run.
    pub fn by_default() -> Self {
        *BY_DEFAULT.get_or_init(|| Self::ALL.into_iter().find(|engine| engine.is_available()).unwrap_or(Self::Portable))
    }

    /// Makes it the default of this process: for measurements and tests, or where an engine is not trusted. An error if
    /// the processor cannot run it, or if another default has been in use before.
    pub fn use_by_default(self) -> Result<(), EngineError> {
        let engine = self.checked()?;
        match *BY_DEFAULT.get_or_init(|| engine) {
            in_use if in_use == engine => Ok(()),
            in_use => Err(EngineError::InUse { engine, in_use }),
        }
    }

    /// Itself, if this processor can run it.
    pub(super) fn checked(self) -> Result<Self, EngineError> {
        if self.is_available() { Ok(self) } else { Err(EngineError::Unavailable { engine: self }) }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Engine {
    type Err = EngineError;

    /// Reads a name, whether this processor can run that engine or not.
    fn from_str(name: &str) -> Result<Self, EngineError> {
        let found = Self::ALL.into_iter().find(|engine| engine.name() == name);
        found.ok_or_else(|| EngineError::Unknown { name: name.to_owned() })
    }
}

fn names(engines: &[Engine]) -> String {
    engines.iter().map(|engine| engine.name()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_engine_is_read_back_from_its_name_and_nothing_else_is() {
        for engine in Engine::ALL {
            assert_eq!(engine.to_string().parse(), Ok(engine));
        }
        for name in ["", "AVX2", "avx2 ", "sse9"] {
            let error = name.parse::<Engine>().expect_err("no engine");
            assert_eq!(error, EngineError::Unknown { name: name.to_owned() });
            assert!(
                error.to_string().ends_with("gfni-avx512, avx512, gfni-avx2, avx2, ssse3, neon, portable"),
                "{error}"
            );
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn an_engine_is_available_exactly_where_its_instructions_are() {
        let avx512 = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw");
        let (avx2, gfni) = (is_x86_feature_detected!("avx2"), is_x86_feature_detected!("gfni"));
        for (engine, has_all) in [
            (Engine::GfniAvx512, avx512 && gfni),
            (Engine::Avx512, avx512),
            (Engine::GfniAvx2, avx2 && gfni),
            (Engine::Avx2, avx2),
            (Engine::Ssse3, is_x86_feature_detected!("ssse3")),
            (Engine::Neon, false),
            (Engine::Portable, true),
        ] {
            assert_eq!(engine.is_available(), has_all, "{engine}");
        }
    }

    #[test]
    fn the_default_is_the_first_available_engine_and_stays_it() {
        let default = Engine::by_default();
        assert_eq!(Some(&default), Engine::available().first());
        assert_eq!(default.use_by_default(), Ok(()));
        // There is always one that this processor cannot run: no processor is both x86-64 and ARM.
        for engine in Engine::ALL.into_iter().filter(|engine| *engine != default) {
            let error = if engine.is_available() {
                EngineError::InUse { engine, in_use: default }
            } else {
                EngineError::Unavailable { engine }
            };
            assert_eq!(engine.use_by_default(), Err(error));
        }
        assert!(Engine::ALL.iter().any(|engine| !engine.is_available()));
        assert_eq!(Engine::by_default(), default);
    }
}
