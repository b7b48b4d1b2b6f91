"""Words of every script, and which phrases mean the same."""

import pytest
import regex

from pipelines.phrases import distinct, key, place_of, same, singular, split, words_of
from pipelines.world import storybook

SEPARATORS = ". , ; ? ! 。 、 ， ； ？ ！ ، ؛ ؟ । ॥ ። ፣ ။ \n \r\n \u2028".split(" ")
PAIRS = {  # written as a class would, and as the scene has it
    "a cat": "cat",
    "The CATS": "cat",
    "  Red\u3000 car. ": "red car",
    "a red-car": "red car",
    "two grey cars": "gray car",
    "ＣＡＴ": "cat",
    "cafe\u0301s": "café",
    "cat\u200b": "cat",
    "“an apple”": "apple",
    "my benches!": "bench",
    "mice": "mouse",
    "glasses": "glasses",
    "T-Shirts": "t shirt",
}


@pytest.mark.parametrize(
    "text, words",
    [
        ("a cat's red-car, O’Brien", ["a", "cat's", "red-car", "O’Brien"]),
        ("cafe\u0301 किताब नमस्ते", ["cafe\u0301", "किताब", "नमस्ते"]),
        ("می\u200cخواهم، گربه", ["می\u200cخواهم", "گربه"]),
        ("❤️ 👨\u200d👩\u200d👧 🐱🐶 🇩🇪🇫🇷 👍🏽 1️⃣", ["❤️", "👨\u200d👩\u200d👧", "🐱", "🐶", "🇩🇪", "🇫🇷", "👍🏽", "1️⃣"]),
        ("猫と犬、ネコ", ["猫", "と", "犬", "ネコ"]),
        ("แมว และ หมา", ["แมว", "และ", "หมา"]),
        ("한국어 고양이", ["한국어", "고양이"]),
        ("a cat.A dog_3.5", ["a", "cat", "A", "dog", "3.5"]),
        ("... ‼ — ", []),
    ],
)
def test_words_of_every_script(text, words):
    found = words_of(text)
    assert [word.text for word in found] == words
    assert all(text[word.start : word.end] == word.text for word in found)


def test_no_word_cuts_what_a_reader_sees_as_one_character():
    for text in ("a👩🏽\u200d🚀b", "g̈ 각 நி षि 🏴󠁧󠁢󠁥󠁮󠁧󠁿 e\u0301\u0323", "سَلام"):
        edges = {0, *(match.end() for match in regex.finditer(r"\X", text))}
        assert {place for word in words_of(text) for place in (word.start, word.end)} <= edges, text


@pytest.mark.parametrize("separator", SEPARATORS)
def test_every_scripts_full_stop_and_comma_part_phrases(separator):
    for first, second in (("cat", "dog"), ("red car", "a dog"), ("猫", "狗"), ("قطة", "كلب"), ("बिल्ली", "कुत्ता")):
        for between in (separator, f" {separator} ", separator * 2):
            assert split(f"{first}{between}{second}{separator}") == [first, second]


@pytest.mark.parametrize("typed", PAIRS)
def test_one_function_says_what_means_the_same(typed):
    assert same(typed, PAIRS[typed]) and key(key(typed)) == key(typed)
    assert place_of(typed, ["dog", PAIRS[typed], "frog"]) == 1


def test_different_things_stay_different():
    names = [
        "cat",
        "dog",
        "cap",
        "cape",
        "pin",
        "pine",
        "red car",
        "blue car",
        "car",
        "glasses",
        "glove",
        "love",
        "猫",
        "狗",
    ]
    names += ["🐱", "🐶", "black and white cat", "bus", "boss", *storybook.THINGS, *storybook.ANIMALS]
    names = list(dict.fromkeys(names))
    assert len({key(name) for name in names}) == len(names)


def test_singulars():
    pairs = (
        "cat cats,box boxes,horse horses,bus buses,dress dresses,cherry cherries,cookie cookies,shoe shoes,toe toes,"
    )
    pairs += "potato potatoes,knife knives,glove gloves,olive olives,lens lenses,woman women,brush brushes,fox foxes,"
    pairs += "virus viruses,panda pandas,blouse blouses,prize prizes,key keys,bee bees,tortoise tortoises,piano pianos,"
    pairs += "glasses glasses,sheep sheep,octopus octopuses,cause causes,canoe canoes,cape capes,tube tubes"
    for pair in pairs.split(","):
        one, many = pair.split()
        assert singular(many) == singular(one) == one
    for noun in (*storybook.NOUNS, *storybook.UNSEEN, *storybook.COLOURS, *storybook.PLACES):
        assert singular(noun) == noun and singular({"mouse": "mice", "glasses": "glasses"}.get(noun, f"{noun}s")) in (
            noun,
            noun + "s",
        )


def test_what_occurs_twice_gets_a_name_of_its_own():
    assert distinct(["cat", "dog", "cat", "cat"]) == ["cat", "dog", "cat (2)", "cat (3)"]
    for names in (["cat", "cat", "cat (2)"], ["cat (2)", "cat", "cat"], [""] * 3):
        assert len(set(distinct(names))) == len(names)
    assert distinct(distinct(["cat", "cat"])) == ["cat", "cat (2)"]
