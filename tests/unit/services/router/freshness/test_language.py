"""Which prompts are taken for another language."""

import pytest

from services.router.freshness import language
from services.router.freshness.language import other_than_english
from services.router.freshness.reading import Reader


@pytest.mark.parametrize(
    "prompt",
    [
        "Quel temps fait-il aujourd'hui ?",
        "Qui est le président de la République ?",
        "Wie wird das Wetter heute in Berlin?",
        "Was ist die Hauptstadt von Kanada?",
        "¿Quién es el presidente de México?",
        "Chi è il presidente della Repubblica italiana?",
        "Qual é a capital do Canadá?",
        "Hoe laat is het nu?",
        "Vad är huvudstaden i Sverige?",
        "Kto jest prezydentem Polski?",
        "Türkiye'nin başkenti neresidir ve nüfusu kaç?",
        "Siapa presiden Indonesia yang sekarang?",
        "Thủ đô của Việt Nam là gì?",
        "Какая сегодня погода в Москве?",
        "今天北京的天气怎么样?",
        "오늘 서울 날씨 어때?",
        "ما هو الطقس اليوم؟",
        "आज मौसम कैसा है?",
        "Ποια είναι η πρωτεύουσα;",
        "Python で配列を並べ替える方法は?",
    ],
)
def test_another_language(prompt: str) -> None:
    assert other_than_english(Reader().read(prompt))


@pytest.mark.parametrize(
    "prompt",
    [
        "",
        "Paris",
        "What is the capital of France?",
        "Who directed La La Land?",
        "population of Rio de Janeiro",
        "Is Beyoncé on tour?",
        "a naïve café",
        "What is the English word for 你好?",
        "How is π = 3.14 proven?",
        "for (int i = 0; i < n; i++) { sum += a[i]; }",
        "SELECT de FROM la",
        "Was it a man who came to die here?",
        "translate 'guten Morgen' to French",
    ],
)
def test_english_or_nothing_that_tells(prompt: str) -> None:
    assert not other_than_english(Reader().read(prompt))


def test_no_word_is_evidence_of_both() -> None:
    assert not language._ENGLISH & language._OTHER
