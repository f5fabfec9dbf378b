//! Who may do what, said a second time and otherwise: by looking at every single destination.
//!
//! Here a destination is what somebody means by it, in words that nobody has encoded; a pattern matches by
//! the definition; and what has wildcards stands for all destinations of a small [`World`], one by one.
//! Only [`Asked::written`] and [`Book::written`] know how any of it is spelled.

use std::fmt::Write;

use access::Action;
use serde_json::Value;

/// Who asks.
#[derive(Debug, Clone)]
pub(crate) struct Person {
    pub(crate) name: String,
    /// Whether it showed that this is its name.
    pub(crate) proven: bool,
    pub(crate) roles: Vec<&'static str>,
    pub(crate) claims: Value,
}

/// A word of a destination.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Word {
    /// This text, whatever is in it.
    Means(String),
    /// These letters, which are how nobody writes any text.
    Letters(String),
}

/// Which destinations are compared with each other at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    Topic,
    Queue,
    AmqQueue,
    TempQueue,
    ReplyQueue,
    Group,
    App,
    /// The keys of that exchange.
    Exchange(&'static str),
    /// The asker's own `/user`; the first word is the prefix behind it.
    Own,
    /// The `/user` of somebody by name; alike.
    Of(String),
}

/// One place in what is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    Is(Word),
    One,
    Many,
}

/// What is asked for.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) action: Action,
    pub(crate) place: Place,
    pub(crate) steps: Vec<Step>,
}

/// One place in a pattern of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Part {
    Is(&'static str),
    One,
    Many,
    User,
    Claim(&'static str),
}

/// Where a pattern of a rule is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Within {
    /// `**`.
    Everything,
    /// `/user/**`.
    Users,
    Place(Place),
    /// The `/user` of those whose name is this one part.
    OfPart(Part),
}

/// A pattern of a rule.
pub(crate) type Pattern = (Within, Vec<Part>);

/// Whom a rule is about.
#[derive(Debug, Clone)]
pub(crate) enum Whom {
    Everyone,
    Proven,
    Unproven,
    Named(&'static [&'static str]),
    Having(&'static str),
    Claiming(&'static str, &'static str),
}

/// A rule.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub(crate) allows: bool,
    pub(crate) actions: &'static [Action],
    pub(crate) patterns: Vec<Pattern>,
    pub(crate) whom: Whom,
}

/// All rules, in their order, and what holds otherwise: `default`, `deny` or `open`.
#[derive(Debug, Clone)]
pub(crate) struct Book {
    pub(crate) lines: Vec<Line>,
    pub(crate) otherwise: &'static str,
}

/// All lists of up to so many of these words: what a wildcard may stand for.
pub(crate) struct World(Vec<Vec<Word>>);

/// With separators that are dots, or slashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spelling {
    Dots,
    Slashes,
}

impl Book {
    /// Whether `person` may have what is asked.
    pub(crate) fn allows(&self, person: &Person, asked: &Asked, world: &World) -> bool {
        let meant = asked.meant(world);
        for line in &self.lines {
            if !line.actions.contains(&asked.action) || !line.whom.includes(person) {
                continue;
            }
            let within = |(within, parts): &Pattern| {
                let mut each = meant.iter().map(|words| {
                    within.includes(&asked.place, person) && fits(within, parts, words, person)
                });
                if line.allows { each.all(|fits| fits) } else { each.any(|fits| fits) }
            };
            if line.patterns.iter().any(within) {
                return line.allows;
            }
        }
        match (self.otherwise, asked.action, &asked.place) {
            ("open", ..) | ("default", Action::Subscribe, Place::Topic | Place::Own) => true,
            ("default", Action::Send, Place::App) => true,
            // To its members, which is asked besides.
            ("default", Action::Send | Action::Subscribe, Place::Group) => true,
            _ => false,
        }
    }

    /// As it stands in `[access]`.
    pub(crate) fn written(&self, spelling: Spelling) -> String {
        let mut toml = format!("otherwise = '{}'\nrules = [\n", self.otherwise);
        for Line { allows, actions, patterns, whom } in &self.lines {
            let effect = if *allows { "allow" } else { "deny" };
            let actions: Vec<_> = actions.iter().map(|action| action.as_str()).collect();
            let patterns: Vec<_> =
                patterns.iter().map(|pattern| written_pattern(pattern, spelling)).collect();
            writeln!(
                toml,
                "{{ {effect} = {actions:?}, destination = {patterns:?}, who = {} }},",
                whom.written()
            )
            .expect("a String takes all");
        }
        toml + "]\n"
    }
}

impl Whom {
    fn includes(&self, person: &Person) -> bool {
        match self {
            Self::Everyone => true,
            Self::Proven => person.proven,
            Self::Unproven => !person.proven,
            Self::Named(names) => person.proven && names.contains(&&*person.name),
            Self::Having(role) => person.roles.contains(role),
            Self::Claiming(claim, value) => person.claims[*claim] == *value,
        }
    }

    fn written(&self) -> String {
        match self {
            Self::Everyone => "'everyone'".into(),
            Self::Proven => "'authenticated'".into(),
            Self::Unproven => "'anonymous'".into(),
            Self::Named(names) => format!("{{ users = {names:?} }}"),
            Self::Having(role) => format!("{{ roles = ['{role}'] }}"),
            Self::Claiming(claim, value) => format!("{{ claim = '{claim}', equals = '{value}' }}"),
        }
    }
}

impl Within {
    fn includes(&self, place: &Place, person: &Person) -> bool {
        match (self, place) {
            (Self::Everything, _) | (Self::Users, Place::Own | Place::Of(_)) => true,
            (Self::Place(within), place) => within == place,
            (Self::OfPart(Part::One), Place::Of(_)) => true,
            (Self::OfPart(Part::Is(is)), Place::Of(name)) => is == name,
            (Self::OfPart(Part::User), Place::Of(name)) => person.proven && person.name == *name,
            (Self::OfPart(Part::Claim(claim)), Place::Of(name)) => person.claims[*claim] == **name,
            _ => false,
        }
    }
}

impl Asked {
    /// All that it stands for.
    fn meant(&self, world: &World) -> Vec<Vec<Word>> {
        let exact = self.steps.iter().map(|step| match step {
            Step::Is(word) => Some(word.clone()),
            Step::One | Step::Many => None,
        });
        match exact.collect() {
            Some(words) => vec![words],
            None => {
                let all = world.0.iter().filter(|words| matches(&self.steps, words));
                let all: Vec<_> = all.cloned().collect();
                assert!(!all.is_empty(), "nothing in this world is {self:?}");
                all
            }
        }
    }

    /// Each destination of the world that it stands for, asked for alone.
    pub(crate) fn singly(&self, world: &World) -> Vec<Self> {
        let single = |words: Vec<Word>| Self {
            steps: words.into_iter().map(Step::Is).collect(),
            ..self.clone()
        };
        // The empty key has no spelling.
        self.meant(world).into_iter().filter(|words| !words.is_empty()).map(single).collect()
    }

    pub(crate) fn has_wildcards(&self) -> bool {
        self.steps.iter().any(|step| !matches!(step, Step::Is(_)))
    }

    /// As a client writes it; none if it cannot, for nothing spells it.
    pub(crate) fn written(&self, spelling: Spelling) -> Option<String> {
        let steps = |steps: &[Step], spelling| {
            let spelling = if steps.len() > 1 { spelling } else { Spelling::Dots };
            let words = steps.iter().map(|step| match step {
                Step::One => Some("*".to_owned()),
                Step::Many => Some(if spelling == Spelling::Dots { "#" } else { "**" }.to_owned()),
                Step::Is(Word::Letters(letters)) => Some(letters.clone()),
                Step::Is(Word::Means(text)) => word(text, spelling),
            });
            Some(words.collect::<Option<Vec<_>>>()?.join(separator(spelling)))
        };
        let user = |before: &str| {
            let (Step::Is(Word::Means(prefix)), rest) = self.steps.split_first()? else {
                return None;
            };
            Some(format!("/user{before}/{prefix}/{}", steps(rest, spelling)?))
        };
        let dots = |prefix: &str| Some(format!("{prefix}/{}", steps(&self.steps, Spelling::Dots)?));
        match &self.place {
            Place::Topic => Some(format!("/topic/{}", steps(&self.steps, spelling)?)),
            Place::App => Some(format!("/app/{}", steps(&self.steps, spelling)?)),
            Place::Queue => dots("/queue"),
            Place::AmqQueue => dots("/amq/queue"),
            Place::TempQueue => dots("/temp-queue"),
            // The only one in which a slash is written as itself.
            Place::ReplyQueue => Some(dots("/reply-queue")?.replace("%2F", "/")),
            Place::Group => dots("/group"),
            Place::Exchange(name) if self.steps.is_empty() => Some(format!("/exchange/{name}")),
            Place::Exchange(name) => dots(&format!("/exchange/{name}")),
            Place::Own => user(""),
            // Behind /user only a slash is written otherwise, and what that is written by.
            Place::Of(name) if name.is_empty() || name.contains("%2F") => None,
            Place::Of(name) => user(&format!("/{}", name.replace('/', "%2F"))),
        }
    }
}

impl World {
    /// For who asks for nothing with wildcards.
    pub(crate) fn empty() -> Self {
        Self(Vec::new())
    }

    /// Up to `length` of these words, and one that nobody ever spells out.
    pub(crate) fn of(mut words: Vec<Word>, length: usize) -> Self {
        words.push(Word::Means("elsewhere".into()));
        words.sort();
        words.dedup();
        let mut all = vec![Vec::new()];
        let mut from = 0;
        for _ in 0..length {
            let to = all.len();
            for before in from..to {
                for word in &words {
                    let mut longer: Vec<Word> = all[before].clone();
                    longer.push(word.clone());
                    all.push(longer);
                }
            }
            from = to;
        }
        Self(all)
    }
}

/// Whether these words are among what `steps` stand for.
fn matches(steps: &[Step], words: &[Word]) -> bool {
    match steps.split_first() {
        None => words.is_empty(),
        Some((Step::Many, rest)) => (0..=words.len()).any(|n| matches(rest, &words[n..])),
        Some((step, rest)) => words.split_first().is_some_and(|(word, words)| {
            (*step == Step::One || *step == Step::Is(word.clone())) && matches(rest, words)
        }),
    }
}

/// Whether these words are among what a rule's `parts` stand for, for that person.
fn fits(within: &Within, parts: &[Part], words: &[Word], person: &Person) -> bool {
    if matches!(within, Within::Everything | Within::Users) {
        return true;
    }
    match parts.split_first() {
        None => words.is_empty(),
        Some((Part::Many, rest)) => {
            (0..=words.len()).any(|n| fits(within, rest, &words[n..], person))
        }
        Some((part, rest)) => words.split_first().is_some_and(|(word, words)| {
            let is_it = match (part, word) {
                (Part::One, _) => true,
                (_, Word::Letters(_)) | (Part::Many, _) => false,
                (Part::Is(text), Word::Means(word)) => text == word,
                (Part::User, Word::Means(word)) => person.proven && person.name == *word,
                (Part::Claim(claim), Word::Means(word)) => person.claims[*claim] == **word,
            };
            is_it && fits(within, rest, words, person)
        }),
    }
}

fn separator(spelling: Spelling) -> &'static str {
    match spelling {
        Spelling::Dots => ".",
        Spelling::Slashes => "/",
    }
}

/// One word of any text, as the documentation says it is written; none where nothing is.
fn word(text: &str, spelling: Spelling) -> Option<String> {
    if text.is_empty() || text.chars().any(char::is_control) {
        return None;
    }
    let mut written = String::new();
    for letter in text.chars() {
        match letter {
            '.' if spelling == Spelling::Slashes => written.push('.'),
            '%' => written.push_str("%25"),
            '.' => written.push_str("%2E"),
            '*' => written.push_str("%2A"),
            '#' => written.push_str("%23"),
            '?' => written.push_str("%3F"),
            '{' => written.push_str("%7B"),
            '}' => written.push_str("%7D"),
            '/' => written.push_str("%2F"),
            letter => written.push(letter),
        }
    }
    // As it is kept: a slash is one byte, and a dot three however it is spelled.
    let kept =
        if spelling == Spelling::Slashes { written.replace('.', "%2E") } else { written.clone() };
    (kept.replace("%2F", "/").len() <= 255).then_some(written)
}

fn written_pattern((within, parts): &Pattern, spelling: Spelling) -> String {
    let part = |part: &Part, spelling| match part {
        Part::Is(text) => word(text, spelling).expect("a word"),
        Part::One => "*".to_owned(),
        Part::Many if spelling == Spelling::Dots => "#".to_owned(),
        Part::Many => "**".to_owned(),
        Part::User => "{user}".to_owned(),
        Part::Claim(claim) => format!("{{claim.{claim}}}"),
    };
    let joined = |parts: &[Part], spelling| {
        let spelling = if parts.len() > 1 { spelling } else { Spelling::Dots };
        let words: Vec<_> = parts.iter().map(|one| part(one, spelling)).collect();
        words.join(separator(spelling))
    };
    let user = |before: &str| match parts.split_first() {
        Some((Part::Is(prefix), rest)) => {
            format!("/user{before}/{prefix}/{}", joined(rest, spelling))
        }
        _ => format!("/user{before}/**"),
    };
    let dots = |prefix: &str| format!("{prefix}/{}", joined(parts, Spelling::Dots));
    match within {
        Within::Everything => "**".into(),
        Within::Users => "/user/**".into(),
        Within::Place(Place::Topic) => format!("/topic/{}", joined(parts, spelling)),
        Within::Place(Place::App) => format!("/app/{}", joined(parts, spelling)),
        Within::Place(Place::Queue) => dots("/queue"),
        Within::Place(Place::AmqQueue) => dots("/amq/queue"),
        Within::Place(Place::TempQueue) => dots("/temp-queue"),
        Within::Place(Place::ReplyQueue) => dots("/reply-queue"),
        Within::Place(Place::Group) => dots("/group"),
        Within::Place(Place::Exchange(name)) if parts.is_empty() => format!("/exchange/{name}"),
        Within::Place(Place::Exchange(name)) => dots(&format!("/exchange/{name}")),
        Within::Place(Place::Own) => user(""),
        Within::Place(Place::Of(name)) => user(&format!("/{}", name.replace('/', "%2F"))),
        Within::OfPart(name) => user(&format!("/{}", part(name, Spelling::Slashes))),
    }
}
