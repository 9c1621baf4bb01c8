from steersman.quoting import quoted, quoted_names


def test_short_values_are_quoted_whole() -> None:
    assert quoted("pärchen") == "'pärchen'"
    assert quoted("x" * 100) == repr("x" * 100)
    assert quoted(7) == "7"


def test_control_characters_are_escaped() -> None:
    assert quoted("a\nb\x1b[2J\u202e") == r"'a\nb\x1b[2J\u202e'"


def test_of_a_long_text_the_beginning_is_quoted() -> None:
    assert quoted("x" * 5000) == f"'{'x' * 100}'... (5000 characters)"
    assert quoted(b"x" * 5000) == f"b'{'x' * 100}'... (5000 bytes)"


def test_of_many_names_the_first_are_quoted() -> None:
    assert quoted_names([]) == "[]"
    assert quoted_names(["b", "a"]) == "['b', 'a']"
    assert quoted_names(str(number) for number in range(1_000_000)).endswith("'18', '19', and 999980 more]")
    assert len(quoted_names(["\0" * 5000] * 5000)) < 10_000
