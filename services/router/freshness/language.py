"""Whether a prompt is in another language than English, which the rules and the classifier can't read.

By its script, and by the small words that every sentence has some of. There has to be evidence of another language: a
prompt that has none of either, such as a name or a line of code, passes for English.
"""

import re
from typing import Final

from services.router.freshness.reading import Reading

# Greek, Cyrillic, Hebrew, Arabic, the scripts of India and of South-East Asia, Georgian, Hangul, kana, Chinese.
_OTHER_SCRIPT: Final = re.compile(r"[\u0370-\u1fff\u2c00-\u2dff\u2e80-\u2fff\u3040-\ud7ff\uf900-\ufaff\uff66-\uffdc]")
SCRIPT_CHARS: Final = 400
SCRIPT_SHARE: Final = 0.3
# So many words are counted; a long prompt's first sentences are in the language that its answer is wanted in.
COUNTED_WORDS: Final = 60
LEAST_WORDS: Final = 2
# English words that make a question about foreign ones an English one: "what is the meaning of …".
ASKED_IN_ENGLISH: Final = 3
_ENGLISH: Final = frozenset(
    """
    about after also and any are been before but by can could did does for from get give had have his how into is it its
    just like make many more most much my not now of one our out please she should some such than that the their them
    then there these they this those to up were what when where which while who whose why will with would write you your
    """.split()  # noqa: SIM905  # as a list it takes a line for each
)
# The commonest words of other languages in Latin script, in lower case. A word of both, as "was", is in neither.
_OTHER: Final = frozenset(
    """
    aber als auf auch aus bei bin bitte das dass dem den der des dich dir doch du ein eine einem einen einer es euch für
    gibt habe haben hat ich ihr im ist kann kannst können mein mich mir mit nach nicht noch oder schreibe sich sie sind
    über um und uns vom von vor wann warum welche welcher welches wenn wer werden wie wird wo zu zum zur zwischen kostet
    heute erkläre nenne

    au aux avec ce ces cette comment dans de des du elle en est et être il ils je la le les leur lui mais moi mon nous
    où par pas peux peut plus pour pourquoi qu quand que quel quelle quelles quels qui sa sans ses son sont sur ta tu un
    une vous à est-ce fait-il suis fait combien aujourdhui

    al cómo como con cual cuál cuales cuáles cuando cuándo cuánto cuántos cuántas del desde donde dónde ella ellos entre
    eres es esta está este están hay hoy las los más mi muy nos para pero por porque puedo puedes qué quién quiénes se
    ser si sobre son su sus también tengo tiene una yo él cuánta hace dame

    anche che chi ci cosa cui dal dalla degli dei del della delle di dove ed è gli hanno il la lo ma nel nella non oggi
    per perché più posso può puoi qual quale quali quando quanti quanto quante questa questo si sono su sul sulla tra un
    uno fa dammi dell nell

    é dia está ao aos até com da das dos ela ele eles em essa eu foi isso mais mas meu na nas não nos num onde os ou
    para pela pelo por porque posso pode quais qual quando quantos quantas que quem são se sem seu sua também tem um uma
    você

    aan bij dan dat de deze dit een en er het hij hoe hoeveel ik je jij kan kun maar met mijn naar niet nog om onder ons
    ook op te tot uit van veel voor waar waarom wanneer wat welk welke wie wij worden zijn

    att av den det där efter eller en ett för från han hur hvad hvem hvor hvordan hvorfor ikke inte jag jeg kan med
    mellan mellom mig mitt när og och om på som till ut vad var varför vem vi vilka vilken vilket är år hva

    co czy dla gdzie ile jak jaka jaki jakie jest je kdo kde kdy kolik kto która który które kiedy na nie od po proč są
    się ten za że

    acest ale am ar care când ce cine cum cât câte de din este eu fost în la mai nu pe pentru sau sunt și un unde

    az és egy hány hogy hogyan ki kik mi miért mikor mit nem van vannak

    bir bu da de değil hangi için ile kaç kim mi mu mı mü nasıl ne neden nedir nerede ve var yok bugün

    ei ja jos kuinka kuka kun miksi mikä milloin missä mitä mutta niin ovat se voi

    ada apa apakah bagaimana bahwa berapa dan dari dengan di dia ini itu kamu kapan karena ke mana mengapa oleh pada
    saya siapa tidak untuk yang

    bạn bao các cho của được gì giữa hôm không là làm nào người những sao ở thế tại tôi và với
    """.split()  # noqa: SIM905
)
_ACCENTED: Final = re.compile(r"(?<![\w'’])[a-zß-ɏ]*[ß-öø-ɏ][a-zß-ɏ]*")


def other_than_english(reading: Reading) -> bool:
    """Whether there is more evidence of another language than of English."""
    counted = set(reading.words[:COUNTED_WORDS])
    english, others = len(counted & _ENGLISH), len(counted & _OTHER)
    if others and not reading.text.isascii():
        others += _ACCENTED.search(reading.text) is not None  # in lower case: "Pokémon" is a name
    if others >= LEAST_WORDS and others > 2 * english:
        return True
    return english < ASKED_IN_ENGLISH and _other_script(reading.text[:SCRIPT_CHARS])


def _other_script(text: str) -> bool:
    """Whether a good part of a text is in another script than Latin: a name or a symbol in one is not enough."""
    if text.isascii():
        return False
    others = len(_OTHER_SCRIPT.findall(text))
    return others >= SCRIPT_SHARE * max(1, sum(map(str.isalpha, text)))
