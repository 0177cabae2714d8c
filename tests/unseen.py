"""Utterances with a number or an address to be masked, between braces. They were written after the patterns were done, and then
61 of the 65 lost all that identifies somebody. Of the others, three addresses that were read out have been mended since (with a
dash or a number in them, a Korean name before the point); a tracking number with letters amid its digits keeps those before."""

UNSEEN = """\
yeah sure it's {5105 1051 0510 5100}
okay so the long number across the front {five one oh five one oh five one oh five one oh five one oh oh}
that would be {six oh one one, one one one one, one one one one, one one one seven}
debit card ending {nine oh one two}
it's a mastercard {5555-5555-5555-4444} expiry ten twenty eight
{three seven eight two, eight two two four, six three one oh, oh oh five}
you can text me on {07700 900123}
it's {oh double seven double oh nine hundred one two three}
my work number is {020 7946 0018} extension four
give him a ring on {oh one six three two nine six oh nine six oh}
{+1 212-555-0187}
{two one two five five five oh one eight seven} that's my cell
{(212) 555 0187} or leave a message
so {plus one, four one five, five five five, two six seven one}
{415/555/2671}
the number on my account is {eight double oh four one seven nine two}
account {00417926}
bsb {oh six two triple zero} account {one two three four five six seven eight}
routing number {021000021}
it's {FR14 2004 1010 0505 0001 3M02 606}
my national insurance is q q {one two three four five six} c
social security {five one five oh nine oh four four one}
passport {five three three three eight oh oh six eight}
policy number {7740029981}
tracking's one z {nine nine nine a a one oh one two three four five six seven eight four}
customer ID {four four eight, uh, one nine two, er, seven three}
{nine nine five one}
my pin's {two seven one eight}
the code they texted me was {eight oh three three one nine}
meter serial {1 8 0 4 4 2 7 7}
email me at {sarah_jones@outlook.com}
it's {sarah dot jones at outlook dot com}
{s a r a h jones ninety two at hotmail dot co dot uk}
send the invoice to {accounts@little-bakery.ie} thanks
that's {mike at acme dash tools dot net}
제 카드는 {4579 7300 1234 5678}이고요
카드번호 불러 드릴게요 {사오칠구 칠삼공공 일이삼사 오육칠팔}
{사오칠구에 칠삼공공에 일이삼사에 오육칠팔}이요
카드 뒤 네 자리가 {팔공일삼}입니다
제 핸드폰은 {010 9988 7766}입니다
{010-9988-7766}이요
{공일공에 구구팔팔에 칠칠육육}
{공일공 구구팔팔 칠칠육육}이에요
{공 일 공 구 구 팔 팔 칠 칠 육 육}이거든요
집 전화는 {공삼일 이일이에 삼사오육}이요
{영일영 구구팔팔 칠칠육육}
{공일육에 이백삼십사에 오육칠팔}
대표 번호 {천육백에 공공일이}로 전화했었어요
{하나하나 둘둘 셋셋 넷넷}
주민등록번호 앞자리 {팔오공삼일이} 뒷자리 {일공이삼사오육}
생년월일은 {팔오공삼일}이에요
{850312-1023456}
계좌는 신한 {110-234-567890}이에요
신한은행 {일일공 이삼사 오육칠팔구공}으로 넣어 주세요
국민 {사이삼공에 공일에 오육칠팔구공}이요
사업자번호 {123-45-67890}입니다
사업자 번호가 {일이삼에 사오에 육칠팔구공}이에요
주문번호 {20241125003871}이요
송장 번호 {육팔이일 공공삼구 사사칠오}요
차량번호 십이 가에 {삼사오육}이요
인증번호 {팔공삼삼일구} 왔어요
비밀번호 뒤에 {공공일이} 맞나요
이메일은 {minsu.park@hanmail.net}이에요
{엠 아이 엔 에스 유 골뱅이 지메일 점 컴}입니다
{민수 점 박 골뱅이 네이버 닷컴}으로 보내 주세요
""".splitlines()
