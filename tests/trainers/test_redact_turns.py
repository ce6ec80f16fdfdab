"""What the words of others give away, what Chinese names look like, and what stays untouched."""

from __future__ import annotations

import re

import pytest

from lorareg.trainers.data.redact.pseudonyms import Piece, redact
from lorareg.trainers.data.redact.rows import redact_row

EVERYDAY = [
    "谢谢您",
    "非常谢谢您的帮助",
    "谢谢您，再见",
    "祝您生活愉快",
    "钱不够",
    "宫保鸡丁多少钱",
    "谢谢",
    "谢谢你",
    "谢谢你们",
    "谢谢啦",
    "非常感谢",
    "感谢您的耐心",
    "麻烦您了",
    "麻烦你帮我看看",
    "您好",
    "你好",
    "请问您需要什么",
    "请稍等",
    "祝您周末愉快",
    "祝你好运",
    "祝生日快乐",
    "祝您万事如意",
    "祝贺你",
    "再见",
    "钱不多",
    "钱没到账",
    "钱退了吗",
    "钱包丢了",
    "钱还没退",
    "多少钱一斤",
    "麻婆豆腐多少钱",
    "鱼香肉丝",
    "水煮鱼好吃吗",
    "白切鸡",
    "黄焖鸡米饭",
    "夫妻肺片",
    "罗宋汤",
    "麻辣烫",
    "米线多少钱",
    "水果很新鲜",
    "水不热",
    "水没了",
    "花很漂亮",
    "方便面",
    "今天天气很好",
    "今天温度很高",
    "明天有雨",
    "云很多",
    "雷阵雨",
    "冷不冷",
    "路上堵车",
    "路不好走",
    "车坏了",
    "车没电了",
    "车停哪里",
    "房不大",
    "房租多少",
    "时间不够",
    "安全吗",
    "安排好了吗",
    "包邮吗",
    "包装破了",
    "单号是多少",
    "单子没收到",
    "边上有人吗",
    "东门在哪里",
    "西门怎么走",
    "南宫在哪",
    "黄山好玩吗",
    "华山怎么去",
    "江边风景",
    "海边散步",
    "石家庄天气",
    "马上就好",
    "高铁票",
    "常来玩",
    "和您确认一下",
    "和他说一下",
    "关门了吗",
    "何时发货",
    "何时到",
    "任何问题",
    "成都天气怎么样",
    "温水就行",
    "易碎品",
    "甘蔗",
    "席子",
    "花卷",
    "牛肉面",
    "羊肉串",
    "鱼丸",
    "鲍鱼",
    "胡椒",
    "金价多少",
    "平台客服",
    "党员",
    "解决了",
    "解决不了",
    "方案不错",
    "应该的",
    "经常来",
    "能不能便宜点",
    "能快点吗",
    "连不上网",
    "连接不上",
    "全不见了",
    "强烈推荐",
    "明白了",
    "毕竟",
    "于是",
    "管用吗",
    "支持一下",
    "查一下",
    "查不到",
    "查询订单",
    "别急",
    "别客气",
    "万分感谢",
    "相信您",
    "项目经理",
    "店员",
    "客服热线",
    "客服电话",
    "客服您好",
    "客服在吗",
    "老板",
    "老师好",
    "老客户",
    "小时候",
    "小朋友",
    "小心",
    "小程序",
    "叫外卖",
    "叫我一声",
    "叫车",
    "叫号",
    "叫什么",
    "我叫不上名字",
    "姓名不能为空",
    "联系人是谁",
    "找经理",
    "找工作",
    "找客服",
    "老公",
    "老人",
    "我是客户",
    "名字很好听",
    "名字：必填",
    "收件人：不在",
    "单位：元",
]
NAMED = [
    ("我叫小明", "我叫{}"),
    ("我叫阿明", "我叫{}"),
    ("我叫迪丽热巴", "我叫{}"),
    ("我叫阿卜杜拉·买买提", "我叫{}"),
    ("姓名：阿卜杜拉·买买提", "姓名：{}"),
    ("联系人：阿卜杜拉·买买提，电话无", "联系人：{}，电话无"),
    ("名字：扎西", "名字：{}"),
    ("收件人：小芳", "收件人：{}"),
    ("客服小张", "客服{}"),
    ("叫我小李就行", "叫我{}就行"),
    ("上官先生", "{}先生"),
    ("欧阳老师", "{}老师"),
    ("我姓欧阳", "我姓{}"),
    ("我姓王，叫我小王", "我姓{}，叫我{}"),
    ("黑先生", "{}先生"),
    ("姓名: 张 伟", "姓名: {}"),
    ("老张", "{}"),
    ("老张说可以", "{}说可以"),
    ("找孙经理", "找{}经理"),
    ("詹姆斯·瓦特", "{}"),
    ("詹姆斯·瓦特发明了蒸汽机", "{}发明了蒸汽机"),
    ("迪丽热巴·迪力木拉提", "{}"),
    ("演员迪丽热巴·迪力木拉提来了", "演员{}来了"),
    ("我叫霍尔顿", "我叫{}"),
    ("霍尔顿", "{}"),
    ("我叫田中太郎", "我叫{}"),
    ("田中太郎", "{}"),
    ("我叫张Wei", "我叫{}"),
    ("张Wei", "{}"),
    ("我叫高兴", "我叫{}"),
    ("我叫张三丰", "我叫{}"),
    ("请找老王", "请找{}"),
    ("小刘你好", "{}你好"),
    ("小刘，你好", "{}，你好"),
    ("我是小陈", "我是{}"),
    ("我叫王小明，住北京", "我叫{}，住北京"),
    ("你好，我叫李雷", "你好，我叫{}"),
    ("王总好", "{}总好"),
    ("张三和李四", "{}和{}"),
    ("客服小美为您服务", "客服{}为您服务"),
    ("收件人李静", "收件人{}"),
    ("联系人：王先生", "联系人：{}先生"),
    ("姓名：张伟 电话", "姓名：{} 电话"),
    ("孙经理", "{}经理"),
    ("古丽·阿不都", "{}"),
    ("穆罕默德·本·萨勒曼", "{}"),
]
ASKED = [
    ("What is your date of birth?", "03/05/1984", "[BIRTHDATE_1]"),
    ("What is your date of birth?", "It is March 5, 1984", "It is [BIRTHDATE_1]"),
    ("Please give me your phone number.", "4155552671", "[PHONE_1]"),
    ("What's your social security number?", "123456789", "[NATIONAL_ID_1]"),
    ("Your medical record number please?", "00458821", "[MEDICAL_RECORD_1]"),
    ("What is your passport number?", "533401234", "[PASSPORT_1]"),
    ("您的出生日期是？", "1984年3月5日", "[BIRTHDATE_1]"),
    ("请提供您的病历号", "00458821", "[MEDICAL_RECORD_1]"),
    ("请问您的QQ号？", "533401234", "[ACCOUNT_1]"),
    ("请提供微信号", "zhangwei8899", "[ACCOUNT_1]"),
    ("请提供护照号", "E12345678", "[PASSPORT_1]"),
    ("您的身份证号？", "110105491231002", "[NATIONAL_ID_1]"),
    ("您贵姓？", "我姓王", "我姓[NAME_1]"),
    ("您贵姓？", "上官", "[NAME_1]"),
    ("What is your name?", "jan kowalczyk", "[NAME_1]"),
    ("What is your name?", "Why do you ask?", "Why do you ask?"),
    ("What is your name?", "I am an assistant.", "I am an assistant."),
    ("您贵姓？", "不告诉你", "不告诉你"),
    ("What is the name of the capital?", "Paris", "Paris"),
]


def once(text: str) -> str:
    return redact([Piece(text)])[0][0]


@pytest.mark.parametrize(("question", "answer", "redacted"), ASKED)
def test_a_question_tells_what_the_answer_is(question: str, answer: str, redacted: str) -> None:
    turns = [{"role": "assistant", "content": question}, {"role": "user", "content": answer}]

    changed, _ = redact_row({"messages": turns})

    assert changed["messages"][1]["content"] == redacted


@pytest.mark.parametrize("phrase", EVERYDAY)
def test_everyday_chinese_stays_as_it_is(phrase: str) -> None:
    assert once(phrase) == phrase


@pytest.mark.parametrize(("text", "redacted"), NAMED)
def test_a_chinese_name_goes_whole(text: str, redacted: str) -> None:
    assert re.sub(r"\[NAME_\d\]", "{}", once(text)) == redacted


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("13\u200b812345678 ok\u200b", "[PHONE_1] ok\u200b"),
        ("Jose\u0301 Garci\u0301a called", "[NAME_1] called"),
        ("我叫张\u200d伟。", "我叫[NAME_1]。"),
        ("my na\u00adme is Jan Kowalski", "my na\u00adme is [NAME_1]"),
        ("cafe\u0301\u200b", "cafe\u0301\u200b"),
    ],
)
def test_characters_that_nobody_sees_hide_nothing(text: str, redacted: str) -> None:
    assert once(text) == redacted


@pytest.mark.parametrize(
    ("introduced", "later", "redacted"),
    [
        ("My name is Bill Qorx.", "Bill, pay the bill.", "[NAME_1], pay the bill."),
        ("我叫高兴。", "高兴您好！我很高兴认识您", "[NAME_1]您好！我很高兴认识您"),
        ("我叫张三丰。", "三丰，你好", "[NAME_1]，你好"),
    ],
)
def test_who_was_introduced_is_known_later(introduced: str, later: str, redacted: str) -> None:
    assert redact([Piece(introduced), Piece(later)])[0][1] == redacted


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("get('https://a.example/d').json()", "get('[URL_1]').json()"),
        ("see https://[2001:db8::1]/x now", "see [URL_1] now"),
        ("Can Ann join?", "Can [NAME_1] join?"),
        ("地址：上海市浦东新区世纪大道100号院3号楼1单元502室。", "地址：[ADDRESS_1]。"),
        ("手机:1 3 8 1 2 3 4 5 6 7 8", "手机:[PHONE_1]"),
        ("my number is 4155552671", "my number is [PHONE_1]"),
        ("打138.1234.5678 或 138 12 34 56 78", "打[PHONE_1] 或 [PHONE_1]"),
        ("生日是84年3月5号", "生日是[BIRTHDATE_1]"),
        ("DOB 5 Mar 84", "DOB [BIRTHDATE_1]"),
        ("card 4111-1111-1111-1112", "card [BANK_CARD_1]"),
        ("mac 00:1A:2B:3C:4D:5E", "mac [IP_1]"),
        ("Thanks, Bob", "Thanks, [NAME_1]"),
        ("MR CARTER", "MR [NAME_1]"),
        ("this is tom speaking", "this is [NAME_1] speaking"),
    ],
)
def test_what_is_around_personal_data_stays(text: str, redacted: str) -> None:
    assert once(text) == redacted
