"""Every threshold of the checks, in one place, with its reason."""

# Enough to learn from (the guides: under 100 rows do not tune, 100 to 500 good ones can do).
FEW_ROWS_ERROR = 50
FEW_ROWS_WARNING = 100
FEW_ROWS_ADVICE = 500
# They are of a whole set; what is learned where held-out rows are files of their own may be half.
FEW_ROWS_LEARNED = 0.5

# Copies weigh their row double. Above the second the set is mostly copies: something went wrong.
DUPLICATES_WARNING = 0.02
DUPLICATES_ERROR = 0.5
NEAR_DUPLICATES_WARNING = 0.1

# Part of the rows that contradict another one: real labels are never free of it.
CONTRADICTIONS_ERROR = 0.02
CONTRADICTIONS_ERROR_ROWS = 10

# Part of the held-out rows that are learned too. Public sets have 1 to 2 % that are the same and
# up to 10 % that nearly are, since people ask short questions in the same words.
LEAKAGE_ERROR = 0.03
LEAKAGE_NEAR_ERROR = 0.2
LEAKAGE_ERROR_ROWS = 3

# Of the content of the longer text, what may differ in near-duplicates (weighed by rarity).
NEAR_CHANGED_WEIGHT = 0.05

# MinHash: hash functions a row, in bands of four; at a Jaccard of 0.7 of their character 4-grams
# 98.5 % of pairs share a band. Below the estimate a pair is not looked at.
HASHES = 64
BAND = 4
CANDIDATE_JACCARD = 0.45
# A word sets one of 64 bits; texts that differ in more bits than this, and than this part of them,
# differ in too many words (two mistyped ones make four).
SKETCH_BITS = 4
SKETCH_PART = 0.4
# 4-grams of a template stand in many inputs and tell nothing: more than this part, and this many.
COMMON_PART = 0.1
COMMON_COUNT = 50
# Members of one bucket that are compared with each other; beyond it only neighbours are.
BUCKET = 24

# Labels that look shuffled: below this many standard deviations above chance there is no relation.
# Among many rows right labels lie at 18 or more, and shuffled ones once came to 3.2 by chance.
UNRELATED_Z = 3.0
UNRELATED_MIN_ROWS = 60
UNRELATED_Z_MANY = 4.5
UNRELATED_MANY_ROWS = 200

# Classes: at most this many different answers, each with this many rows on average.
MAX_CLASSES = 200
CLASS_MIN_ROWS = 5.0
CLASS_MAX_CHARS = 80
# The largest class against the smallest.
IMBALANCE = 20.0

# Answers: a format or a set of keys that fewer have is an exception, not a second habit.
STRUCTURE_EXCEPTION = 0.1
STRUCTURE_MIN_ROWS = 20
# System prompts: below this many different ones, one of them is meant to be the one.
FEW_SYSTEM_PROMPTS = 10

# Facts rather than behaviour: long answers that have nothing in common with each other.
FACTS_WORDS = 30
FACTS_COMMON = 0.08
# So few classes, or so few rows, are worth a try with a prompt first.
PROMPT_FIRST_CLASSES = 5
PROMPT_FIRST_ROWS = 500

# Lines named where a finding is shown, and those that it keeps for programs; the rest is counted.
LINES_SHOWN = 20
LINES_KEPT = 1000
SAMPLE_ROWS = 8
