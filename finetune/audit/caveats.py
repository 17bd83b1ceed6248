"""What is known against the probes, in our own words, with the source: it stands beside every score."""

from __future__ import annotations

CROWS, WINOBIAS, SWAPS, ERROR_RATES, COLUMN = "crows", "winobias", "swaps", "hatecheck", "column"

_BLODGETT = "Blodgett and others, Stereotyping Norwegian Salmon, ACL 2021"
_LIKELIHOOD = (
    "What lies inside a model need not show in its use: for word embeddings such measures were found not to go along "
    "with the bias of systems built on them. A likelihood of sentences is such a measure.",
    "Goldfarb-Tarrant and others, Intrinsic Bias Metrics Do Not Correlate with Application Bias, ACL 2021",
)
_ONE_SIDED = (
    "A score near its null value is no proof of fairness: it speaks for these texts, groups and words alone.",
    "by construction of the probe",
)

# By form: (what is to be known, where it was published).
CAVEATS: dict[str, tuple[tuple[str, str], ...]] = {
    CROWS: (
        (
            "Many pairs of CrowS-Pairs are flawed: unclear or no stereotypes, pairs that differ in more than the "
            "group, groups that do not belong together, slips of grammar. What exactly is measured is often not said.",
            _BLODGETT,
        ),
        (
            "The authors of CrowS-Pairs themselves advise, after that review, against taking its score for a good "
            "measure of the bias of a model.",
            "Nangia and others, README of github.com/nyu-mll/crows-pairs; data: EMNLP 2020",
        ),
        ("The stereotypes are those of crowd workers in the United States.", "Nangia and others, EMNLP 2020"),
        _LIKELIHOOD,
        _ONE_SIDED,
    ),
    WINOBIAS: (
        (
            "WinoBias was made for coreference resolution; here it is read as likelihoods, so published scores do not "
            "compare. It knows two genders and the occupations of United States labour statistics.",
            "Zhao and others, Gender Bias in Coreference Resolution, NAACL 2018",
        ),
        (
            "The sentences follow a few patterns; sets of contrasting pairs such as WinoBias were reviewed together "
            "with CrowS-Pairs and share its kind of faults.",
            _BLODGETT,
        ),
        _LIKELIHOOD,
        _ONE_SIDED,
    ),
    SWAPS: (
        (
            "A swapped text may be odd or untrue: some facts do belong to one group. In Portuguese articles and "
            "adjectives agree with the noun, and only those that stand in the list are changed with it, so that some "
            "flips come from broken agreement. The neutral swap shows how easily any change flips an answer, but its "
            "words agree as those before them did, and are mostly of the same meaning.",
            "Garg and others, Counterfactual Fairness in Text Classification, AIES 2019 (asymmetric counterfactuals)",
        ),
        (
            "Texts that name both groups are left out, so that what is said of them together is not probed.",
            "by construction of the probe",
        ),
        ("Words name groups only in part: names, dialect and topics carry them too.", "Garg and others, AIES 2019"),
        _ONE_SIDED,
    ),
    ERROR_RATES: (
        (
            "HateCheck shows weaknesses, not strengths: its short, plain cases are easier than real posts, and passing "
            "them says little of a model that is in use. Each group has few cases of a kind.",
            "Röttger and others, HateCheck, ACL 2021; Multilingual HateCheck, WOAH 2022",
        ),
        (
            "What counts as hate there is abuse aimed at a protected group. Labels of other data (toxic, offensive) "
            "mean something else, so that part of the errors is that difference and not bias.",
            "Röttger and others, ACL 2021",
        ),
        _ONE_SIDED,
    ),
    COLUMN: (
        (
            "Groups differ in what they write about as well as in who they are: a gap of error rates says where a "
            "model serves worse, not why. Labels may carry a bias of their own, which the rates take for truth.",
            "Sap and others, The Risk of Racial Bias in Hate Speech Detection, ACL 2019",
        ),
        _ONE_SIDED,
    ),
}


def caveats_of(form: str) -> list[dict[str, str]]:
    """Return the caveats of a form as they stand in the record."""
    return [{"says": says, "source": source} for says, source in CAVEATS[form]]
